/* The dot products of codes.c for AVX-512 with VNNI: one instruction multiplies 64 numbers of each half and adds the
 * products, four at a time, to sums of 32 bits. */
#include "kernels.h"

#include <immintrin.h>

enum {
    WIDTH = 64, /* bytes in a vector */
    ROWS = 4,   /* at once: they share what is loaded of the query */
};

/* The sums with the products of one vector of each row; bytes that the mask leaves out are not read, and count as zero. */
INLINE void add_vector(__m512i sums[ROWS], const uint8_t *const row[ROWS], const int8_t *even, const int8_t *odd, size_t at,
                       __mmask64 mask) {
    const __m512i low_half = _mm512_set1_epi8(15);
    const __m512i of_even = _mm512_maskz_loadu_epi8(mask, even + at), of_odd = _mm512_maskz_loadu_epi8(mask, odd + at);
    UNROLL for (int r = 0; r < ROWS; r++) {
        const __m512i code = _mm512_maskz_loadu_epi8(mask, row[r] + at);
        const __m512i high = _mm512_and_si512(_mm512_srli_epi64(code, 4), low_half);
        sums[r] = _mm512_dpbusd_epi32(sums[r], _mm512_and_si512(code, low_half), of_even);
        sums[r] = _mm512_dpbusd_epi32(sums[r], high, of_odd);
    }
}

static void vnni(int32_t *dots, const uint8_t *codes, const int8_t *query, size_t rows, size_t bytes) {
    const size_t whole = bytes / WIDTH * WIDTH;
    const __mmask64 rest = (1ULL << (bytes - whole)) - 1;
    for (size_t first = 0; first < rows; first += ROWS) {
        const size_t count = rows - first < ROWS ? rows - first : ROWS;
        const uint8_t *row[ROWS]; /* a group that is not full works on its first row again */
        __m512i sums[ROWS];
        UNROLL for (size_t r = 0; r < ROWS; r++) {
            row[r] = codes + (first + (r < count ? r : 0)) * bytes;
            sums[r] = _mm512_setzero_si512();
        }
        for (size_t at = 0; at < whole; at += WIDTH) add_vector(sums, row, query, query + bytes, at, ~0ULL);
        if (rest) add_vector(sums, row, query, query + bytes, whole, rest);
        for (size_t r = 0; r < count; r++) dots[first + r] = _mm512_reduce_add_epi32(sums[r]);
    }
}

const struct code_kernel xtrace_vnni_codes = {"vnni", vnni};
