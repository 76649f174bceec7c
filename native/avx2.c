/* The kernels for AVX2 and FMA: four rows at a time, one in each 64-bit lane.
 *
 * `vpmuludq` multiplies 32 bits to 64, so limbs of 27 bits would take one such instruction and one addition a product.
 * Doubles multiply 51 bits in five instructions, of which two multiply: 3.6 times the work in 2.5 times the
 * instructions. */
#include "kernels.h"

#include <immintrin.h>

typedef __m256i V;
typedef __m256d D;

enum { LANES = 4 };

INLINE V zero(void) { return _mm256_setzero_si256(); }
INLINE V all(uint64_t word) { return _mm256_set1_epi64x((long long)word); }
INLINE V add(V a, V b) { return _mm256_add_epi64(a, b); }
INLINE V sub(V a, V b) { return _mm256_sub_epi64(a, b); }
INLINE V both(V a, V b) { return _mm256_and_si256(a, b); }
INLINE V either(V a, V b) { return _mm256_or_si256(a, b); }
INLINE V or_masked(V sum, V a, V mask) { return _mm256_or_si256(sum, _mm256_and_si256(a, mask)); }
INLINE V differing(V a, V b) { return _mm256_xor_si256(a, b); }
INLINE V top_bit(V a) { return _mm256_srli_epi64(a, 63); }
INLINE V high_half(V a) { return _mm256_srli_epi64(a, 32); }
INLINE V to_high_half(V a) { return _mm256_slli_epi64(a, 32); }
INLINE V times_32(V a, V b) { return _mm256_mul_epu32(a, b); }

/* Words with a sign, divided by 2^51: there is no such shift, so they are made positive first. */
INLINE V high_bits(V a) { return sub(_mm256_srli_epi64(add(a, all(1ULL << 63)), 51), all(1ULL << 12)); }

INLINE D all_doubles(double number) { return _mm256_set1_pd(number); }
INLINE D as_doubles(V a) { return _mm256_castsi256_pd(a); }
INLINE V as_words(D a) { return _mm256_castpd_si256(a); }
INLINE D less(D a, D b) { return _mm256_sub_pd(a, b); }
INLINE D fused(D a, D b, D plus) { return _mm256_fmadd_pd(a, b, plus); }

INLINE V load_words(const uint64_t *words) { return _mm256_loadu_si256((const V *)words); }
INLINE void store_words(uint64_t *words, V a) { _mm256_storeu_si256((V *)words, a); }

INLINE void transpose(V r[4]) {
    V a = _mm256_unpacklo_epi64(r[0], r[1]), b = _mm256_unpackhi_epi64(r[0], r[1]);
    V c = _mm256_unpacklo_epi64(r[2], r[3]), d = _mm256_unpackhi_epi64(r[2], r[3]);
    r[0] = _mm256_permute2x128_si256(a, c, 0x20);
    r[1] = _mm256_permute2x128_si256(b, d, 0x20);
    r[2] = _mm256_permute2x128_si256(a, c, 0x31);
    r[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

#include "doubles.h"

#include "lanes.h"

const struct kernels xtrace_avx2 = KERNELS("avx2", 1);

INLINE V load_half_words(const uint32_t *words) {
    return _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)words));
}
INLINE void store_half_words(uint32_t *words, V a) {
    const V low = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128((__m128i *)words, _mm256_castsi256_si128(low));
}
INLINE V left(V a, int bits) { return _mm256_slli_epi64(a, bits); }
INLINE V right(V a, int bits) { return _mm256_srli_epi64(a, bits); }
INLINE V less_if_reached(V a, V bound) { return _mm256_min_epu32(a, sub(a, bound)); } /* the high halves are 0 in a */

typedef __m256i W;

enum { WIDE = 8 };

INLINE W wide_all(uint32_t word) { return _mm256_set1_epi32((int)word); }
INLINE W wide_add(W a, W b) { return _mm256_add_epi32(a, b); }
INLINE W wide_sub(W a, W b) { return _mm256_sub_epi32(a, b); }
INLINE W wide_both(W a, W b) { return _mm256_and_si256(a, b); }
INLINE W wide_right(W a, int bits) { return _mm256_srli_epi32(a, bits); }
INLINE W wide_least(W a, W b) { return _mm256_min_epu32(a, b); }
INLINE W wide_low(W a, W b) { return _mm256_mullo_epi32(a, b); }
INLINE W wide_high(W a, W b) {
    const W even = times_32(a, b), odd = times_32(high_half(a), high_half(b));
    return _mm256_blend_epi32(high_half(even), odd, 0xaa);
}
INLINE W load_wide(const uint32_t *words) { return _mm256_loadu_si256((const W *)words); }
INLINE void store_wide(uint32_t *words, W a) { _mm256_storeu_si256((W *)words, a); }

INLINE void wide_transpose(W r[8]) {
    W a[8], b[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

#include "lattice.h"

const struct lattice_kernels xtrace_avx2_lattice = LATTICE_KERNELS("avx2");
