/* Dot products of vectors in codes of 4 bits with one query of 8 bits: what a search in a local index computes.
 *
 * A byte of a code holds two numbers from 0 to 15: the even coordinate in its low half, the odd one in its high half. The
 * query comes in two halves too, its even coordinates and then its odd ones, each from -63 to 63.
 *
 * Bounds. A product is at most 15 * 63 = 945 in size. Four of them, the two halves of two bytes, take an element of
 * 16 bits to 3780, and BLOCKS of those fit: 8 * 3780 = 30240. A row has at most MAX_CODE_BYTES, so that a sum fits into
 * 32 bits.
 */
#include "kernels.h"

#include <string.h>

static void plain(int32_t *dots, const uint8_t *codes, const int8_t *query, size_t rows, size_t bytes) {
    const int8_t *even = query, *odd = query + bytes;
    for (size_t row = 0; row < rows; row++, codes += bytes) {
        int32_t sum = 0;
        for (size_t i = 0; i < bytes; i++) sum += (codes[i] & 15) * even[i] + (codes[i] >> 4) * odd[i];
        dots[row] = sum;
    }
}

const struct code_kernel xtrace_plain_codes = {"plain", plain};

#ifdef XTRACE_HAVE_AVX2

#include <immintrin.h>

typedef __m256i V;

enum {
    WIDTH = 32, /* bytes in a vector */
    ROWS = 4,   /* at once: they share what is loaded of the query */
    BLOCKS = 8, /* vectors whose products are summed in elements of 16 bits */
};

/* Only these functions are compiled for AVX2; dispatch.c decides whether they run. */
#define AVX2 __attribute__((target("avx2")))

AVX2 INLINE V load(const void *bytes) { return _mm256_loadu_si256(bytes); }

/* For each two bytes of a code the sum of their four products, as an element of 16 bits. */
AVX2 INLINE V products(V code, V even, V odd) {
    const V low_half = _mm256_set1_epi8(15);
    const V low = _mm256_and_si256(code, low_half), high = _mm256_and_si256(_mm256_srli_epi16(code, 4), low_half);
    return _mm256_add_epi16(_mm256_maddubs_epi16(low, even), _mm256_maddubs_epi16(high, odd));
}

/* The sums of the elements of each of four vectors. */
AVX2 INLINE __m128i sums_of(const V each[ROWS]) {
    const V pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(each[0], each[1]), _mm256_hadd_epi32(each[2], each[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

/* What does not fill a vector at the end of a row, with zeros behind it. */
struct rest {
    uint8_t bytes[WIDTH];
};

AVX2 INLINE struct rest rest_of(const void *row, size_t whole, size_t bytes) {
    struct rest rest = {{0}};
    memcpy(rest.bytes, (const uint8_t *)row + whole, bytes - whole);
    return rest;
}

AVX2 static void avx2(int32_t *dots, const uint8_t *codes, const int8_t *query, size_t rows, size_t bytes) {
    const int8_t *even = query, *odd = query + bytes;
    const size_t whole = bytes / WIDTH * WIDTH;
    const struct rest even_rest = rest_of(even, whole, bytes), odd_rest = rest_of(odd, whole, bytes);
    const V ones = _mm256_set1_epi16(1);
    for (size_t first = 0; first < rows; first += ROWS) {
        const size_t count = rows - first < ROWS ? rows - first : ROWS;
        const uint8_t *row[ROWS]; /* a group that is not full works on its first row again */
        V sums[ROWS];
        for (size_t r = 0; r < ROWS; r++) {
            row[r] = codes + (first + (r < count ? r : 0)) * bytes;
            sums[r] = _mm256_setzero_si256();
        }
        for (size_t i = 0; i < whole;) {
            const size_t end = whole - i < BLOCKS * WIDTH ? whole : i + BLOCKS * WIDTH;
            V parts[ROWS] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                             _mm256_setzero_si256()};
            for (; i < end; i += WIDTH) {
                const V of_even = load(even + i), of_odd = load(odd + i);
                UNROLL for (size_t r = 0; r < ROWS; r++)
                    parts[r] = _mm256_add_epi16(parts[r], products(load(row[r] + i), of_even, of_odd));
            }
            UNROLL for (size_t r = 0; r < ROWS; r++)
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(parts[r], ones));
        }
        if (whole < bytes) {
            const V of_even = load(even_rest.bytes), of_odd = load(odd_rest.bytes);
            for (size_t r = 0; r < ROWS; r++) {
                const struct rest code = rest_of(row[r], whole, bytes);
                const V last = _mm256_madd_epi16(products(load(code.bytes), of_even, of_odd), ones);
                sums[r] = _mm256_add_epi32(sums[r], last);
            }
        }
        int32_t found[ROWS];
        _mm_storeu_si128((__m128i *)found, sums_of(sums));
        memcpy(dots + first, found, count * sizeof *found);
    }
}

const struct code_kernel xtrace_avx2_codes = {"avx2", avx2};

#endif
