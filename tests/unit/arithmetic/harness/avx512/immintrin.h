/* The AVX-512 instructions that native/ifma.c and native/vnni.c use, in plain C, for machines and tools that have none: valgrind above all.
 *
 * Found instead of the compiler's own header where this folder comes first. Vectors are GNU C's; what a mask leaves out
 * is not touched, as in the instructions. Branches depend on masks and on immediate numbers only, which are public.
 */
#ifndef XTRACE_AVX512_IN_C
#define XTRACE_AVX512_IN_C

#include <stdint.h>
#include <string.h>

typedef uint64_t __m512i __attribute__((vector_size(64)));
typedef uint64_t __mmask64;

#define AVX512 static inline __attribute__((always_inline, unused))
#define CALLED static __attribute__((noinline, unused)) /* or the compiler would be busy for long */
#define LOW_52 ((1ULL << 52) - 1)

AVX512 __m512i _mm512_setzero_si512(void) { return (__m512i){0}; }
AVX512 __m512i _mm512_set1_epi64(long long a) { return (uint64_t)a - (__m512i){0}; }
AVX512 __m512i _mm512_set_epi64(long long h, long long g, long long f, long long e, long long d, long long c, long long b,
                                long long a) {
    return (__m512i){(uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d,
                     (uint64_t)e, (uint64_t)f, (uint64_t)g, (uint64_t)h};
}

AVX512 __m512i _mm512_add_epi64(__m512i a, __m512i b) { return a + b; }
AVX512 __m512i _mm512_sub_epi64(__m512i a, __m512i b) { return a - b; }
AVX512 __m512i _mm512_and_si512(__m512i a, __m512i b) { return a & b; }
AVX512 __m512i _mm512_or_si512(__m512i a, __m512i b) { return a | b; }
AVX512 __m512i _mm512_xor_si512(__m512i a, __m512i b) { return a ^ b; }
AVX512 __m512i _mm512_srli_epi64(__m512i a, unsigned n) { return a >> n; }
AVX512 __m512i _mm512_slli_epi64(__m512i a, unsigned n) { return a << n; }
AVX512 __m512i _mm512_srlv_epi64(__m512i a, __m512i n) { return a >> n; }

/* Bit 4 a + 2 b + c of the table, for each three bits. */
AVX512 __m512i _mm512_ternarylogic_epi64(__m512i a, __m512i b, __m512i c, int table) {
    __m512i r = {0};
    for (int i = 0; i < 8; i++)
        if (table >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
}

CALLED __m512i _mm512_madd52lo_epu64(__m512i sum, __m512i a, __m512i b) {
    for (int i = 0; i < 8; i++) sum[i] += (uint64_t)((unsigned __int128)(a[i] & LOW_52) * (b[i] & LOW_52)) & LOW_52;
    return sum;
}

CALLED __m512i _mm512_madd52hi_epu64(__m512i sum, __m512i a, __m512i b) {
    for (int i = 0; i < 8; i++) sum[i] += (uint64_t)((unsigned __int128)(a[i] & LOW_52) * (b[i] & LOW_52) >> 52);
    return sum;
}

AVX512 __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) {
    return (__m512i){a[0], b[0], a[2], b[2], a[4], b[4], a[6], b[6]};
}

AVX512 __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) {
    return (__m512i){a[1], b[1], a[3], b[3], a[5], b[5], a[7], b[7]};
}

/* Pairs of words: two of a, then two of b, chosen by two bits each. */
AVX512 __m512i _mm512_shuffle_i64x2(__m512i a, __m512i b, int places) {
    const int w = (places & 3) * 2, x = (places >> 2 & 3) * 2, y = (places >> 4 & 3) * 2, z = (places >> 6 & 3) * 2;
    return (__m512i){a[w], a[w + 1], a[x], a[x + 1], b[y], b[y + 1], b[z], b[z + 1]};
}

AVX512 __m512i _mm512_load_si512(const void *from) {
    __m512i r;
    memcpy(&r, __builtin_assume_aligned(from, 64), 64);
    return r;
}

AVX512 __m512i _mm512_loadu_si512(const void *from) {
    __m512i r;
    memcpy(&r, from, 64);
    return r;
}

typedef uint32_t __m256i __attribute__((vector_size(32)));

AVX512 __m256i _mm256_loadu_si256(const __m256i *from) {
    __m256i r;
    memcpy(&r, from, 32);
    return r;
}

AVX512 __m512i _mm512_cvtepu32_epi64(__m256i a) {
    return (__m512i){a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]};
}

AVX512 __m512i _mm512_mul_epu32(__m512i a, __m512i b) { return (a & 0xffffffff) * (b & 0xffffffff); }

/* Without a branch, whatever the compiler makes of it: comparing gives all ones or nothing. */
AVX512 __m512i _mm512_min_epu64(__m512i a, __m512i b) {
    const __m512i smaller = (__m512i)(a < b);
    return (a & smaller) | (b & ~smaller);
}

/* ---- Sixteen half words -------------------------------------------------------------------------------------------- */

typedef uint32_t half_words_of_512 __attribute__((vector_size(64)));

AVX512 __m512i _mm512_set1_epi32(int a) { return (__m512i)((uint32_t)a - (half_words_of_512){0}); }
AVX512 __m512i _mm512_add_epi32(__m512i a, __m512i b) { return (__m512i)((half_words_of_512)a + (half_words_of_512)b); }
AVX512 __m512i _mm512_sub_epi32(__m512i a, __m512i b) { return (__m512i)((half_words_of_512)a - (half_words_of_512)b); }
AVX512 __m512i _mm512_srli_epi32(__m512i a, unsigned n) { return (__m512i)((half_words_of_512)a >> n); }
AVX512 __m512i _mm512_mullo_epi32(__m512i a, __m512i b) {
    return (__m512i)((half_words_of_512)a * (half_words_of_512)b);
}

AVX512 __m512i _mm512_min_epu32(__m512i a, __m512i b) {
    const __m512i smaller = (__m512i)((half_words_of_512)a < (half_words_of_512)b);
    return (a & smaller) | (b & ~smaller);
}

AVX512 __m512i _mm512_mask_blend_epi32(uint16_t mask, __m512i a, __m512i b) {
    half_words_of_512 r = (half_words_of_512)a;
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) r[i] = ((half_words_of_512)b)[i];
    return (__m512i)r;
}

/* In each 128 bits: the lower, or the upper, half words of a and b in turn. */
AVX512 __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) {
    const half_words_of_512 x = (half_words_of_512)a, y = (half_words_of_512)b;
    return (__m512i)(half_words_of_512){x[0], y[0], x[1], y[1], x[4],  y[4],  x[5],  y[5],
                                        x[8], y[8], x[9], y[9], x[12], y[12], x[13], y[13]};
}

AVX512 __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) {
    const half_words_of_512 x = (half_words_of_512)a, y = (half_words_of_512)b;
    return (__m512i)(half_words_of_512){x[2],  y[2],  x[3],  y[3],  x[6],  y[6],  x[7],  y[7],
                                        x[10], y[10], x[11], y[11], x[14], y[14], x[15], y[15]};
}

AVX512 __m256i _mm512_cvtepi64_epi32(__m512i a) {
    return (__m256i){(uint32_t)a[0], (uint32_t)a[1], (uint32_t)a[2], (uint32_t)a[3],
                     (uint32_t)a[4], (uint32_t)a[5], (uint32_t)a[6], (uint32_t)a[7]};
}

AVX512 void _mm256_storeu_si256(__m256i *to, __m256i a) { memcpy(to, &a, 32); }

AVX512 void _mm512_storeu_si512(void *to, __m512i a) { memcpy(to, &a, 64); }

CALLED __m512i _mm512_maskz_loadu_epi8(__mmask64 mask, const void *from) {
    uint8_t bytes[64] = {0};
    for (int i = 0; i < 64; i++)
        if (mask >> i & 1) bytes[i] = ((const uint8_t *)from)[i];
    return _mm512_loadu_si512(bytes);
}

CALLED void _mm512_mask_storeu_epi8(void *to, __mmask64 mask, __m512i a) {
    uint8_t bytes[64];
    _mm512_storeu_si512(bytes, a);
    for (int i = 0; i < 64; i++)
        if (mask >> i & 1) ((uint8_t *)to)[i] = bytes[i];
}

CALLED __mmask64 _mm512_movepi8_mask(__m512i a) {
    uint8_t bytes[64];
    __mmask64 mask = 0;
    _mm512_storeu_si512(bytes, a);
    for (int i = 0; i < 64; i++) mask |= (__mmask64)(bytes[i] >> 7) << i;
    return mask;
}

CALLED __m512i _mm512_maskz_permutexvar_epi8(__mmask64 mask, __m512i places, __m512i a) {
    uint8_t from[64], at[64], to[64];
    _mm512_storeu_si512(from, a);
    _mm512_storeu_si512(at, places);
    for (int i = 0; i < 64; i++) to[i] = mask >> i & 1 ? from[at[i] & 63] : 0;
    return _mm512_loadu_si512(to);
}

CALLED __m512i _mm512_permutexvar_epi8(__m512i places, __m512i a) {
    return _mm512_maskz_permutexvar_epi8(~0ULL, places, a);
}

typedef uint8_t bytes_of_512 __attribute__((vector_size(64)));
typedef int32_t sums_of_512 __attribute__((vector_size(64)));

AVX512 __m512i _mm512_set1_epi8(char a) { return (__m512i)((uint8_t)a - (bytes_of_512){0}); }

/* Bytes without a sign times bytes with one. */
CALLED __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
    sums_of_512 r = (sums_of_512)sum;
    for (int i = 0; i < 64; i++) r[i / 4] += ((bytes_of_512)a)[i] * (int8_t)((bytes_of_512)b)[i];
    return (__m512i)r;
}

AVX512 int _mm512_reduce_add_epi32(__m512i a) {
    int r = 0;
    for (int i = 0; i < 16; i++) r += ((sums_of_512)a)[i];
    return r;
}

#endif
