/* The kernels for AVX2: four rows at a time, one in each 64-bit lane, limbs of 27 bits.
 *
 * `vpmuludq` multiplies the low 32 bits of two lanes to 64 bits, and an addition of its own adds the product to a column;
 * there is no instruction that does both to integers. Limbs of 27 bits leave room in a column for the longest sums there
 * are, so that no carry is propagated inside a product.
 *
 * Bounds. A limb that is multiplied is below 2^27 and a product below 2^54. In `linear` a column has at most MAX_LIMBS
 * products, two of the reduction and `plus`; in a product of two elements of a ring, 3 * MAX_HALF and `lift`. Both are
 * fewer than 2^10 products, so a column stays below 2^64.
 */
#include "kernels.h"

#include <immintrin.h>
#include <string.h>

typedef __m256i V;

enum {
    LANES = 4,
    BLOCK = 4, /* limbs of one operand, and columns of the product beside them, that are held in registers */
    TILE = 8,  /* columns of a table that are summed at once */
    MAX_LIMBS = 640,
    MAX_HALF = 160,
};

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#define DO_NOT_UNROLL _Pragma("GCC unroll 1")

#define LIMB_BITS 27
#define LIMB_MASK ((1ULL << LIMB_BITS) - 1)

INLINE V zero(void) { return _mm256_setzero_si256(); }
INLINE V all(uint64_t word) { return _mm256_set1_epi64x((long long)word); }
INLINE V add(V a, V b) { return _mm256_add_epi64(a, b); }
INLINE V sub(V a, V b) { return _mm256_sub_epi64(a, b); }
INLINE V both(V a, V b) { return _mm256_and_si256(a, b); }
INLINE V or_masked(V sum, V a, V mask) { return _mm256_or_si256(sum, _mm256_and_si256(a, mask)); }
INLINE V differing(V a, V b) { return _mm256_xor_si256(a, b); }
INLINE V top_bit(V a) { return _mm256_srli_epi64(a, 63); }
INLINE V low_bits(V a) { return _mm256_and_si256(a, all(LIMB_MASK)); }
INLINE V high_bits(V a) { return _mm256_srli_epi64(a, LIMB_BITS); }
INLINE V add_times(V sum, V a, V b) { return _mm256_add_epi64(sum, _mm256_mul_epu32(a, b)); }

/* ---- Rows of bytes and limbs ---------------------------------------------------------------------------------- */

INLINE void transpose(V r[4]) {
    V a = _mm256_unpacklo_epi64(r[0], r[1]), b = _mm256_unpackhi_epi64(r[0], r[1]);
    V c = _mm256_unpacklo_epi64(r[2], r[3]), d = _mm256_unpackhi_epi64(r[2], r[3]);
    r[0] = _mm256_permute2x128_si256(a, c, 0x20);
    r[1] = _mm256_permute2x128_si256(b, d, 0x20);
    r[2] = _mm256_permute2x128_si256(a, c, 0x31);
    r[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

INLINE V load_words(const uint64_t *words) { return _mm256_loadu_si256((const V *)words); }
INLINE void store_words(uint64_t *words, V a) { _mm256_storeu_si256((V *)words, a); }

/* The first `limbs` limbs of up to four rows; a limb is somewhere in the eight bytes in which it begins. */
static void load_rows(V *x, const uint8_t *rows, size_t live, size_t bytes, size_t limbs) {
    uint64_t *words = (uint64_t *)x;
    for (size_t lane = 0; lane < LANES; lane++) {
        const uint8_t *row = rows + lane * bytes;
        for (size_t k = 0; k < limbs; k++) {
            const size_t bit = LIMB_BITS * k;
            words[LANES * k + lane] = lane < live ? word_at(row, bytes, bit / 8) >> bit % 8 & LIMB_MASK : 0;
        }
    }
}

/* The low `bytes` bytes of up to four numbers whose limbs are below 2^27. */
static void store_rows(uint8_t *rows, size_t live, size_t bytes, const V *x) {
    const uint64_t *words = (const uint64_t *)x;
    for (size_t lane = 0; lane < live; lane++) {
        uint8_t *row = rows + lane * bytes;
        uint64_t waiting = 0;
        size_t bits = 0, k = 0, offset = 0;
        while (offset < bytes) {
            while (bits < 32) {
                waiting |= words[LANES * k++ + lane] << bits;
                bits += LIMB_BITS;
            }
            const uint32_t word = (uint32_t)waiting;
            memcpy(row + offset, &word, bytes - offset < 4 ? bytes - offset : 4);
            offset += 4;
            waiting >>= 32;
            bits -= 32;
        }
    }
}

/* ---- Products in lazy columns ---------------------------------------------------------------------------------- */

/* columns[0 .. n + 4) += a[0 .. 4) * b[0 .. n), n a multiple of four; `w` holds the columns that products still reach,
 * column c in w[c mod 4]. */
INLINE void sweep_on(V w[BLOCK], V *columns, const V *a, const V *b, const uint64_t *shared, size_t first, size_t n) {
    V a_[BLOCK];
    UNROLL for (int k = 0; k < BLOCK; k++) a_[k] = a[k];
    DO_NOT_UNROLL for (size_t j = first; j < n; j += BLOCK) {
        UNROLL for (int u = 0; u < BLOCK; u++) {
            V by = shared ? all(shared[j + u]) : b[j + u];
            columns[j + u] = add_times(w[u], a_[0], by);
            w[u] = columns[j + u + BLOCK];
            UNROLL for (int k = 1; k < BLOCK; k++) w[(u + k) % BLOCK] = add_times(w[(u + k) % BLOCK], a_[k], by);
        }
    }
    UNROLL for (int k = 0; k < BLOCK; k++) columns[n + k] = w[k];
}

NOINLINE void sweep(V *columns, const V *a, const V *b, size_t n) {
    V w[BLOCK];
    UNROLL for (int k = 0; k < BLOCK; k++) w[k] = columns[k];
    sweep_on(w, columns, a, b, NULL, 0, n);
}

/* columns[0 .. 2n) = a * b, or += if something is there already. */
INLINE void add_product(V *columns, int there, const V *a, const V *b, size_t n) {
    for (size_t k = 0; !there && k < 2 * n; k++) columns[k] = zero();
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK) sweep(columns + t, a + t, b, n);
}

/* columns[0 .. 2n) = a * a. Products of two different limbs come twice. */
INLINE void set_to_square(V *columns, const V *a, size_t n) {
    for (size_t k = 0; k < 2 * n; k++) columns[k] = zero();
    for (size_t t = 0; t < n; t += BLOCK) {
        for (size_t i = 0; i < BLOCK; i++)
            for (size_t j = i + 1; j < BLOCK; j++)
                columns[2 * t + i + j] = add_times(columns[2 * t + i + j], a[t + i], a[t + j]);
        if (t + BLOCK < n) sweep(columns + 2 * t + BLOCK, a + t, a + t + BLOCK, n - BLOCK - t);
    }
    for (size_t k = 0; k < n; k++) {
        columns[2 * k] = add_times(add(columns[2 * k], columns[2 * k]), a[k], a[k]);
        columns[2 * k + 1] = add(columns[2 * k + 1], columns[2 * k + 1]);
    }
}

/* Montgomery's reduction: adds the multiple `digits` of the modulus that makes columns[0 .. n) vanish; what remains, the
 * sum divided by 2^(27 n), is in columns[n .. 2n), lazily. A block of four digits goes through the lowest four limbs of the
 * modulus, one digit after another, then sweeps the rest. */
NOINLINE void reduce(V *columns, V *digits, const uint64_t *modulus, uint64_t inverse, size_t n) {
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK) {
        V *c = columns + t, *m = digits + t, w[BLOCK];
        UNROLL for (int k = 0; k < BLOCK; k++) w[k] = c[k];
        UNROLL for (int u = 0; u < BLOCK; u++) {
            V digit = low_bits(_mm256_mul_epu32(low_bits(w[u]), all(inverse)));
            V vanishing = add_times(w[u], digit, all(modulus[0]));
            m[u] = digit;
            w[u] = c[u + BLOCK];
            UNROLL for (int k = 1; k < BLOCK; k++)
                w[(u + k) % BLOCK] = add_times(w[(u + k) % BLOCK], digit, all(modulus[k]));
            w[(u + 1) % BLOCK] = add(w[(u + 1) % BLOCK], high_bits(vanishing));
        }
        sweep_on(w, c, m, NULL, modulus, BLOCK, n);
    }
}

/* The sum of limbs of x times rows of a table, and of `plus`: columns[0 .. n + 2). A tile of eight columns stays in
 * registers while all limbs of x go by. */
INLINE void add_table(V *columns, const V *x, size_t limbs, const uint64_t *table, const uint64_t *plus, size_t n) {
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += TILE, table += TILE * limbs) {
        V w[TILE];
        UNROLL for (int k = 0; k < TILE; k++) w[k] = all(plus[t + k]);
        DO_NOT_UNROLL for (size_t i = 0; i < limbs; i++) {
            const V a = x[i];
            UNROLL for (int k = 0; k < TILE; k++) w[k] = add_times(w[k], a, all(table[TILE * i + k]));
        }
        UNROLL for (int k = 0; k < TILE; k++) columns[t + k] = w[k];
    }
    columns[n] = columns[n + 1] = zero();
}

/* Two steps of Montgomery's reduction of n + 2 columns and a pass of carries: out = columns / 2^54 modulo the modulus. */
INLINE void fold(V *out, const V *columns, V digits[2], const uint64_t *modulus, uint64_t inverse, size_t n) {
    const V m0 = low_bits(_mm256_mul_epu32(low_bits(columns[0]), all(inverse)));
    V t = add(columns[1], high_bits(add_times(columns[0], m0, all(modulus[0]))));
    t = add_times(t, m0, all(modulus[1]));
    const V m1 = low_bits(_mm256_mul_epu32(low_bits(t), all(inverse)));
    V over = high_bits(add_times(t, m1, all(modulus[0])));
    digits[0] = m0;
    digits[1] = m1;
    for (size_t k = 2; k < n + 2; k++) {
        t = add(over, columns[k]);
        if (k < n) t = add_times(t, m0, all(modulus[k]));
        if (k < n + 1) t = add_times(t, m1, all(modulus[k - 1]));
        out[k - 2] = low_bits(t);
        over = high_bits(t);
    }
}

#include "lanes.h"

const struct kernels xtrace_avx2 = KERNELS("avx2");
