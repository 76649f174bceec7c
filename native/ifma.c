/* The kernels for AVX-512 IFMA: eight rows at a time, one in each 64-bit lane, limbs of 52 bits.
 *
 * `vpmadd52luq` and `vpmadd52huq` multiply the low 52 bits of two lanes and add the low or the high half of the
 * product to a third. One of them starts each cycle, so the number of products bounds every kernel from below, and all
 * that follows serves to keep that unit busy: columns of a product stay in registers while they are added to, no carry
 * is propagated inside a product, and every other instruction finds a place beside.
 *
 * Bounds. A limb that is multiplied must be below 2^52, for the unit ignores higher bits. A column collects halves,
 * each below 2^52, and what `carry` later moves on. In `linear` a column has at most 2 * MAX_LIMBS halves of the sum
 * and 4 of the reduction; in a product of two elements of a ring, 4 * half of two products and 2 * half of the
 * reduction, with half at most MAX_HALF: always below 2^11 halves, so below 2^63, and no sum overflows its 64 bits.
 */
#include "kernels.h"

#include <immintrin.h>
#include <string.h>

typedef __m512i V;

enum {
    LANES = 8,
    TILE = 10,  /* columns of a table that are summed at once */
    BLOCK = 10, /* limbs of one operand that are held in registers, and columns of the product beside them */
    MAX_LIMBS = 330,
    MAX_HALF = 80,
};

#define LIMB_BITS 52
#define LIMB_MASK ((1ULL << LIMB_BITS) - 1)

INLINE V zero(void) { return _mm512_setzero_si512(); }
INLINE V all(uint64_t word) { return _mm512_set1_epi64((long long)word); }
INLINE V add(V a, V b) { return _mm512_add_epi64(a, b); }
INLINE V sub(V a, V b) { return _mm512_sub_epi64(a, b); }
INLINE V low_bits(V a) { return _mm512_and_si512(a, all(LIMB_MASK)); }
INLINE V high_bits(V a) { return _mm512_srli_epi64(a, LIMB_BITS); }
INLINE V top_bit(V a) { return _mm512_srli_epi64(a, 63); }
INLINE V both(V a, V b) { return _mm512_and_si512(a, b); }
INLINE V or_masked(V sum, V a, V mask) { return _mm512_ternarylogic_epi64(sum, a, mask, 0xf8); }
INLINE V differing(V a, V b) { return _mm512_xor_si512(a, b); }
INLINE V add_low(V sum, V a, V b) { return _mm512_madd52lo_epu64(sum, a, b); }
INLINE V add_high(V sum, V a, V b) { return _mm512_madd52hi_epu64(sum, a, b); }

/* ---- Rows of bytes and limbs ---------------------------------------------------------------------------------- */

/* An 8 by 8 matrix of words, transposed: eight limbs of each of eight rows become eight rows of each limb. */
INLINE void transpose(V r[8]) {
    V a[8], b[8];
    UNROLL for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm512_shuffle_i64x2(a[4 * i], a[4 * i + 2], 0x88);
        b[4 * i + 1] = _mm512_shuffle_i64x2(a[4 * i + 1], a[4 * i + 3], 0x88);
        b[4 * i + 2] = _mm512_shuffle_i64x2(a[4 * i], a[4 * i + 2], 0xdd);
        b[4 * i + 3] = _mm512_shuffle_i64x2(a[4 * i + 1], a[4 * i + 3], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i64x2(b[i], b[i + 4], 0x88);
        r[i + 4] = _mm512_shuffle_i64x2(b[i], b[i + 4], 0xdd);
    }
}

/* Eight limbs are 52 bytes. Limb i begins at byte 13 i / 2, at a half byte if i is odd. */
static const uint8_t WORD_OF_LIMB[64] __attribute__((aligned(64))) = {
    0,  1,  2,  3,  4,  5,  6,  7,  6,  7,  8,  9,  10, 11, 12, 13, 13, 14, 15, 16, 17, 18, 19, 20, 19, 20, 21, 22,
    23, 24, 25, 26, 26, 27, 28, 29, 30, 31, 32, 33, 32, 33, 34, 35, 36, 37, 38, 39, 39, 40, 41, 42, 43, 44, 45, 46,
    45, 46, 47, 48, 49, 50, 51, 52,
};

/* The other way, bytes 0 to 51 of the row from the words: 13 bytes come from two limbs, 6 from the even one, 6 from the
 * odd one shifted up by half a byte, the seventh from both. 0x80 is nothing. */
static const uint8_t FROM_EVEN[64] __attribute__((aligned(64))) = {
    0,    1,    2,    3,    4,    5,    6,    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 16,   17,   18,   19,   20,   21,
    22,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 32,   33,   34,   35,   36,   37,   38,   0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 48,   49,   50,   51,   52,   53,   54,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
};
static const uint8_t FROM_ODD[64] __attribute__((aligned(64))) = {
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 8,    9,    10,   11,   12,   13,   14,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    24,   25,   26,   27,   28,   29,   30,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 40,   41,   42,   43,   44,   45,
    46,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 56,   57,   58,   59,   60,   61,   62,   0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
};

INLINE V place_bytes(const uint8_t places[64], V words) {
    V index = _mm512_load_si512(places);
    return _mm512_maskz_permutexvar_epi8(~_mm512_movepi8_mask(index), index, words);
}

/* A mask of the bytes of a row from `offset` on that there are, at most `most` of them. */
INLINE __mmask64 bytes_left(size_t bytes, size_t offset, size_t most) {
    size_t left = offset < bytes ? bytes - offset : 0;
    left = left < most ? left : most;
    return left >= 64 ? ~0ULL : (1ULL << left) - 1;
}

/* The first `limbs` limbs, rounded up to eights, of up to eight rows. */
INLINE void load_rows(V *x, const uint8_t *rows, size_t live, size_t bytes, size_t limbs) {
    const V index = _mm512_load_si512(WORD_OF_LIMB), shift = _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0);
    DO_NOT_UNROLL for (size_t g = 0; 8 * g < limbs; g++) {
        const size_t offset = 52 * g;
        const __mmask64 there = bytes_left(bytes, offset, 64);
        V r[8];
        UNROLL for (size_t i = 0; i < 8; i++) {
            V piece = _mm512_maskz_loadu_epi8(i < live ? there : 0, rows + i * bytes + offset);
            r[i] = low_bits(_mm512_srlv_epi64(_mm512_permutexvar_epi8(index, piece), shift));
        }
        transpose(r);
        UNROLL for (int i = 0; i < 8; i++) x[8 * g + i] = r[i];
    }
}

/* The low `bytes` bytes of up to eight numbers whose limbs are below 2^52; x is read in whole eights of limbs. */
INLINE void store_rows(uint8_t *rows, size_t live, size_t bytes, const V *x) {
    DO_NOT_UNROLL for (size_t g = 0; 52 * g < bytes; g++) {
        const size_t offset = 52 * g;
        const __mmask64 there = bytes_left(bytes, offset, 52);
        V r[8];
        UNROLL for (int i = 0; i < 8; i++) r[i] = x[8 * g + i];
        transpose(r);
        UNROLL for (size_t i = 0; i < 8; i++) {
            V even = place_bytes(FROM_EVEN, r[i]), odd = place_bytes(FROM_ODD, _mm512_slli_epi64(r[i], 4));
            _mm512_mask_storeu_epi8(rows + i * bytes + offset, i < live ? there : 0, _mm512_or_si512(even, odd));
        }
    }
}

INLINE V load_words(const uint64_t *words) { return _mm512_loadu_si512(words); }
INLINE void store_words(uint64_t *words, V a) { _mm512_storeu_si512(words, a); }

/* ---- Products in lazy columns ---------------------------------------------------------------------------------- */

/* Ten columns, from u on, of a[0..10) * b are added to; `w` holds them, column c in w[c mod 10]. */
INLINE void add_products(V w[BLOCK], const V a[BLOCK], V b, int u) {
    UNROLL for (int k = 1; k < BLOCK; k++) w[(u + k) % BLOCK] = add_low(w[(u + k) % BLOCK], a[k], b);
    UNROLL for (int k = 0; k < BLOCK; k++) w[(u + k + 1) % BLOCK] = add_high(w[(u + k + 1) % BLOCK], a[k], b);
}

/* One step of ten of a sweep: each limb of b in turn meets the ten limbs of a. The lowest column leaves the window, for no
 * product reaches it any more, and the next one takes its register; it is zero unless `there`. */
INLINE void sweep_block(V w[BLOCK], V *columns, const V a[BLOCK], const V *b, const uint64_t *shared, int there) {
    UNROLL for (int u = 0; u < BLOCK; u++) {
        V by = shared ? all(shared[u]) : b[u];
        columns[u] = add_low(w[u], a[0], by);
        w[u] = there ? columns[u + BLOCK] : zero();
        add_products(w, a, by, u);
    }
}

/* columns[0 .. n + 10) += a[0 .. 10) * b[0 .. n), n a multiple of ten; columns from `known` on are zero and not read. */
NOINLINE void sweep(V *columns, size_t known, const V *a, const V *b, size_t n) {
    V w[BLOCK], a_[BLOCK];
    const size_t loading = known <= BLOCK ? 0 : known - BLOCK < n ? known - BLOCK : n;
    size_t j = 0;
    UNROLL for (int k = 0; k < BLOCK; k++) a_[k] = a[k];
    UNROLL for (int k = 0; k < BLOCK; k++) w[k] = known ? columns[k] : zero();
    DO_NOT_UNROLL for (; j < loading; j += BLOCK) sweep_block(w, columns + j, a_, b + j, NULL, 1);
    DO_NOT_UNROLL for (; j < n; j += BLOCK) sweep_block(w, columns + j, a_, b + j, NULL, 0);
    UNROLL for (int k = 0; k < BLOCK; k++) columns[n + k] = w[k];
}

/* columns[0 .. 2n) = a * b, or += if something is there already. */
INLINE void add_product(V *columns, int there, const V *a, const V *b, size_t n) {
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK)
        sweep(columns + t, there ? n + BLOCK : t ? n : 0, a + t, b, n);
}

/* columns[0 .. 20) += the square of a[0 .. 10), where the columns hold half of what is there so far: products of two
 * different limbs come twice, so the columns are doubled before the squares of single limbs are added. */
NOINLINE void double_and_add_square(V *columns, const V *a) {
    V t[2 * BLOCK], a_[BLOCK];
    UNROLL for (int c = 0; c < 2 * BLOCK; c++) t[c] = columns[c];
    UNROLL for (int k = 0; k < BLOCK; k++) a_[k] = a[k];
    UNROLL for (int d = 1; d < BLOCK; d++) {
        UNROLL for (int i = 0; i < BLOCK - d; i++) t[2 * i + d] = add_low(t[2 * i + d], a_[i], a_[i + d]);
        UNROLL for (int i = 0; i < BLOCK - d; i++) t[2 * i + d + 1] = add_high(t[2 * i + d + 1], a_[i], a_[i + d]);
    }
    UNROLL for (int i = 0; i < BLOCK; i++) {
        columns[2 * i] = add_low(add(t[2 * i], t[2 * i]), a_[i], a_[i]);
        columns[2 * i + 1] = add_high(add(t[2 * i + 1], t[2 * i + 1]), a_[i], a_[i]);
    }
}

/* columns[0 .. 2n) = a * b. */
INLINE void set_to_product(V *columns, const V *a, const V *b, size_t n) { add_product(columns, 0, a, b, n); }

/* first[0 .. 2n) = a[0 .. n) * b[0 .. n), second[0 .. 2n) = a[0 .. n) * b[n .. 2n) + a[n .. 2n) * b[0 .. n). */
INLINE void set_to_products(V *first, V *second, const V *a, const V *b, size_t n) {
    add_product(first, 0, a, b, n);
    add_product(second, 0, a, b + n, n);
    add_product(second, 1, a + n, b, n);
}

/* The same of x and a number whose first digit is 1 and whose second is y[0 .. n). */
INLINE void set_to_sum(V *first, V *second, const V *x, const V *y, size_t n) {
    add_product(second, 0, x, y, n);
    for (size_t k = 0; k < n; k++) {
        first[k] = x[k];
        first[n + k] = zero();
        second[k] = add(second[k], x[n + k]);
    }
}

/* columns[0 .. 2n) = a * a. Block t meets the blocks above it in columns from 2t + 10 on; those below n + t are known. */
INLINE void set_to_square(V *columns, const V *a, size_t n) {
    UNROLL for (int k = 0; k < BLOCK; k++) columns[k] = columns[2 * n - BLOCK + k] = zero();
    DO_NOT_UNROLL for (size_t t = 0; t + BLOCK < n; t += BLOCK)
        sweep(columns + 2 * t + BLOCK, t ? n - t - BLOCK : 0, a + t, a + t + BLOCK, n - BLOCK - t);
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK) double_and_add_square(columns + 2 * t, a + t);
}

/* The same as `set_to_products` of a and a. */
INLINE void set_to_squares(V *first, V *second, const V *a, size_t n) {
    set_to_square(first, a, n);
    add_product(second, 0, a, a + n, n);
    for (size_t k = 0; k < 2 * n; k++) second[k] = add(second[k], second[k]);
}

/* Montgomery's reduction: adds the multiple `digits` of the modulus that makes columns[0 .. n) vanish; what remains, the
 * sum divided by 2^(52 n), is in columns[n .. 2n), lazily. Each digit needs the column below it complete, so a block of
 * ten digits first goes through the lowest ten limbs of the modulus, one digit after another, then sweeps the rest. */
NOINLINE void reduce(V *columns, V *digits, const uint64_t *modulus, const uint64_t *inverse, size_t n) {
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK) {
        V *c = columns + t, *m = digits + t, w[BLOCK], low[BLOCK];
        UNROLL for (int k = 0; k < BLOCK; k++) w[k] = c[k];
        UNROLL for (int k = 0; k < BLOCK; k++) low[k] = all(modulus[k]);
        UNROLL for (int u = 0; u < BLOCK; u++) {
            V digit = add_low(zero(), w[u], all(inverse[0]));
            V vanishing = add_low(w[u], digit, low[0]);
            V *next = &w[(u + 1) % BLOCK];
            m[u] = digit;
            w[u] = c[u + BLOCK];
            *next = add_low(add_high(*next, digit, low[0]), digit, low[1]);
            *next = add(*next, high_bits(vanishing));
            UNROLL for (int k = 2; k < BLOCK; k++) w[(u + k) % BLOCK] = add_low(w[(u + k) % BLOCK], digit, low[k]);
            UNROLL for (int k = 1; k < BLOCK; k++)
                w[(u + k + 1) % BLOCK] = add_high(w[(u + k + 1) % BLOCK], digit, low[k]);
        }
        UNROLL for (int k = 0; k < BLOCK; k++) low[k] = m[k];
        DO_NOT_UNROLL for (size_t j = BLOCK; j < n; j += BLOCK) sweep_block(w, c + j, low, NULL, modulus + j, 1);
        UNROLL for (int k = 0; k < BLOCK; k++) c[n + k] = w[k];
    }
}

/* Both reductions of `set_to_products`: the digits of the first are subtracted from the second, with `lift`. */
INLINE void reduce_both(V *first, V *second, const struct ring *ring) {
    V digits[MAX_HALF];
    const size_t n = ring->half;
    reduce(first, digits, ring->prime, ring->inverse, n);
    for (size_t k = 0; k < n; k++) second[k] = add(second[k], sub(all(ring->lift[k]), digits[k]));
    reduce(second, digits, ring->prime, ring->inverse, n);
}

/* The sum of limbs of x times rows of a table, and of `plus`: columns[0 .. n + 1]. A tile of ten columns stays in
 * registers while all limbs of x go by; its highest column is the lowest of the next tile. */
INLINE void add_table(V *columns, const V *x, size_t limbs, const uint64_t *table, const uint64_t *plus, size_t n) {
    V over = zero();
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK, table += BLOCK * limbs) {
        V w[BLOCK + 1];
        UNROLL for (int k = 0; k < BLOCK; k++) w[k] = all(plus[t + k]);
        w[0] = add(w[0], over);
        w[BLOCK] = zero();
        DO_NOT_UNROLL for (size_t i = 0; i < limbs; i++) {
            const V a = x[i];
            UNROLL for (int k = 0; k < BLOCK; k++) {
                const V b = all(table[BLOCK * i + k]);
                w[k] = add_low(w[k], a, b);
                w[k + 1] = add_high(w[k + 1], a, b);
            }
        }
        UNROLL for (int k = 0; k < BLOCK; k++) columns[t + k] = w[k];
        over = w[BLOCK];
    }
    columns[n] = over;
    columns[n + 1] = zero();
}

/* Two steps of Montgomery's reduction of n + 2 columns and a pass of carries: out = columns / 2^104 modulo the modulus. */
INLINE void fold(V *out, const V *columns, V digits[2], const uint64_t *modulus, uint64_t inverse, size_t n) {
    V t = columns[0];
    const V m0 = add_low(zero(), t, all(inverse));
    t = add(columns[1], high_bits(add_low(t, m0, all(modulus[0]))));
    t = add_high(add_low(t, m0, all(modulus[1])), m0, all(modulus[0]));
    const V m1 = add_low(zero(), t, all(inverse));
    V over = high_bits(add_low(t, m1, all(modulus[0])));
    V below = all(modulus[0]), here = all(modulus[1]);
    digits[0] = m0;
    digits[1] = m1;
    for (size_t k = 2; k < n + 2; k++) {
        const V next = k < n ? all(modulus[k]) : zero();
        V one = add_high(add_low(columns[k], m0, next), m0, here);
        V two = add_high(add_low(over, m1, here), m1, below);
        t = add(one, two);
        out[k - 2] = low_bits(t);
        over = high_bits(t);
        below = here;
        here = next;
    }
}

#include "lanes.h"

const struct kernels xtrace_ifma = KERNELS("ifma", 0);

/* ---- Encrypted blocks -------------------------------------------------------------------------------------------- */

INLINE V either(V a, V b) { return _mm512_or_si512(a, b); }
INLINE V high_half(V a) { return _mm512_srli_epi64(a, 32); }
INLINE V to_high_half(V a) { return _mm512_slli_epi64(a, 32); }
INLINE V times_32(V a, V b) { return _mm512_mul_epu32(a, b); }
INLINE V load_half_words(const uint32_t *words) {
    return _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)words));
}
INLINE void store_half_words(uint32_t *words, V a) {
    _mm256_storeu_si256((__m256i *)words, _mm512_cvtepi64_epi32(a));
}
INLINE V left(V a, int bits) { return _mm512_slli_epi64(a, (unsigned)bits); }
INLINE V right(V a, int bits) { return _mm512_srli_epi64(a, (unsigned)bits); }
INLINE V less_if_reached(V a, V bound) { return _mm512_min_epu64(a, sub(a, bound)); }

typedef __m512i W;

enum { WIDE = 16 };

INLINE W wide_all(uint32_t word) { return _mm512_set1_epi32((int)word); }
INLINE W wide_add(W a, W b) { return _mm512_add_epi32(a, b); }
INLINE W wide_sub(W a, W b) { return _mm512_sub_epi32(a, b); }
INLINE W wide_both(W a, W b) { return _mm512_and_si512(a, b); }
INLINE W wide_right(W a, int bits) { return _mm512_srli_epi32(a, (unsigned)bits); }
INLINE W wide_least(W a, W b) { return _mm512_min_epu32(a, b); }
INLINE W wide_low(W a, W b) { return _mm512_mullo_epi32(a, b); }
INLINE W wide_high(W a, W b) {
    const W even = times_32(a, b), odd = times_32(high_half(a), high_half(b));
    return _mm512_mask_blend_epi32(0xaaaa, high_half(even), odd);
}
INLINE W load_wide(const uint32_t *words) { return _mm512_loadu_si512(words); }
INLINE void store_wide(uint32_t *words, W a) { _mm512_storeu_si512(words, a); }

INLINE void wide_transpose(W r[16]) {
    W a[16], b[16];
    UNROLL for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
        UNROLL for (int h = 0; h < 16; h += 8) {
            a[h + i] = _mm512_shuffle_i64x2(b[h + i], b[h + i + 4], 0x88);
            a[h + i + 4] = _mm512_shuffle_i64x2(b[h + i], b[h + i + 4], 0xdd);
        }
    UNROLL for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i64x2(a[i], a[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i64x2(a[i], a[i + 8], 0xdd);
    }
}

#include "lattice.h"

const struct lattice_kernels xtrace_ifma_lattice = LATTICE_KERNELS("ifma");
