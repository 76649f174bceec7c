/* The ring of encrypted blocks, in terms of what an instruction set's file defines before it includes this: the vector
 * type V of LANES 64-bit lanes and the operations on it, and W, of WIDE 32-bit lanes (lattice_transforms.h).
 * `less_if_reached` subtracts a bound if the rest is not below zero, of numbers of 32 bits. xtrace_core/lattice/ says
 * what is computed, and computes the same with NumPy.
 *
 * - Longa, Naehrig, "Speeding up the number theoretic transform for faster ideal lattice-based cryptography", CANS 2016.
 * - Harvey, "Faster arithmetic for number-theoretic transforms", Journal of Symbolic Computation 60, 2014.
 *
 * Bounds. Primes are below 2^30. Between two steps of a transform numbers are below 4q, thus 32 bits. A sum of products
 * of residues takes LATTICE_LAZY of them: 16 (q - 1)^2 is below 2^64 by more than 2^32 times `fold`, so that a folded sum
 * takes as many again.
 *
 * All steps and addresses are the same for all values.
 */

enum {
    HALF_TILE = LATTICE_TILE / 2,
    HALF_VECTORS = HALF_TILE / LANES,
    BODIES = LANES > 1 ? 2 : 1, /* that share what is loaded of a query; plain C has no registers for two */
};

/* x times a fixed number, whose quotient is that number times 2^32 divided by q: below 2q, for any x of 32 bits. */
INLINE V times_fixed(V x, V number, V quotient, V q) {
    return sub(times_32(x, number), times_32(high_half(times_32(x, quotient)), q));
}

/* The same number modulo q, below 2^58. */
INLINE V folded(V sum, V fold) { return add(both(sum, all(0xffffffff)), times_32(high_half(sum), fold)); }

/* Below q, from any number. */
INLINE V reduced(V sum, const struct lattice_prime *p) {
    const V q = all(p->q), x = folded(sum, all(p->fold));
    const V quotient = right(times_32(right(x, 29), all(p->reciprocal)), 31);
    return less_if_reached(less_if_reached(sub(x, times_32(quotient, q)), all(2 * p->q)), q);
}

#include "lattice_transforms.h"

/* ---- Products of blocks with a query --------------------------------------------------------------------------------- */

enum { PREFETCH = 2048 }; /* bytes ahead of what is worked on */

/* Both residues of the sums of products of `blocks` bodies, which share what is loaded of the query. */
INLINE void sums_of_products(uint32_t (*sums)[2][LATTICE_DEGREE], const uint8_t *const *bodies, size_t blocks,
                             const uint8_t *query, size_t words, const struct lattice_prime *primes) {
    const V fold[2] = {all(primes[0].fold), all(primes[1].fold)};
    for (size_t part = 0; part < 2 * LATTICE_DEGREE / LATTICE_TILE; part++) {
        V low[2][HALF_VECTORS], high[2][HALF_VECTORS];
        size_t at = 8 * (part / 2 * words * LATTICE_TILE + part % 2 * HALF_TILE);
        UNROLL for (size_t b = 0; b < blocks; b++)
            UNROLL for (size_t i = 0; i < HALF_VECTORS; i++) low[b][i] = high[b][i] = zero();
        for (size_t word = 0; word < words;) {
            const size_t end = words - word < LATTICE_LAZY ? words : word + LATTICE_LAZY;
            for (; word < end; word++, at += 8 * LATTICE_TILE) {
                UNROLL for (size_t b = 0; b < blocks; b++) __builtin_prefetch(bodies[b] + at + PREFETCH);
                UNROLL for (size_t i = 0; i < HALF_VECTORS; i++) {
                    const V asked = load_words((const uint64_t *)(query + at) + LANES * i), asked_high = high_half(asked);
                    UNROLL for (size_t b = 0; b < blocks; b++) {
                        const V row = load_words((const uint64_t *)(bodies[b] + at) + LANES * i);
                        low[b][i] = add(low[b][i], times_32(row, asked));
                        high[b][i] = add(high[b][i], times_32(high_half(row), asked_high));
                    }
                }
            }
            UNROLL for (size_t b = 0; b < blocks; b++)
                UNROLL for (size_t i = 0; i < HALF_VECTORS; i++) {
                    low[b][i] = folded(low[b][i], fold[0]);
                    high[b][i] = folded(high[b][i], fold[1]);
                }
        }
        for (size_t b = 0; b < blocks; b++)
            for (size_t i = 0; i < HALF_VECTORS; i++) {
                const size_t place = part * HALF_TILE + LANES * i;
                store_half_words(sums[b][0] + place, reduced(low[b][i], &primes[0]));
                store_half_words(sums[b][1] + place, reduced(high[b][i], &primes[1]));
            }
    }
}

/* A residue as its part of a fraction of Q: the multiple of 2^-64 that this rounding gives is part of the format. */
INLINE V fraction_of(V residue, const struct lattice_prime *p) {
    const V part = less_if_reached(
        times_fixed(residue, all(p->cofactor_inverse), all(p->cofactor_quotient), all(p->q)), all(p->q));
    return add(times_32(part, all(p->scale)), to_high_half(times_32(part, all(p->scale >> 32))));
}

/* Values of up to BODIES bodies. */
static void lattice_evaluate(const struct lattice_prime primes[2], uint16_t *const *values, const uint8_t *const *bodies,
                             size_t count, const uint8_t *query, size_t words) {
    uint32_t sums[BODIES][2][LATTICE_DEGREE];
    if (count == BODIES) sums_of_products(sums, bodies, BODIES, query, words, primes);
    else sums_of_products(sums, bodies, 1, query, words, primes);
    for (size_t t = 0; t < 2; t++) {
        struct lattice_transform inverse;
        lattice_prepare(&inverse, &primes[t], 1);
        for (size_t b = 0; b < count; b++) lattice_inverse(sums[b][t], &inverse);
    }
    const V half = all(1ULL << (63 - LATTICE_VALUE_BITS));
    for (size_t b = 0; b < count; b++)
        for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
            uint64_t rounded[LANES];
            const V one = fraction_of(load_half_words(sums[b][0] + i), &primes[0]);
            const V other = fraction_of(load_half_words(sums[b][1] + i), &primes[1]);
            store_words(rounded, right(add(add(one, other), half), 64 - LATTICE_VALUE_BITS));
            for (size_t k = 0; k < LANES; k++) values[b][i + k] = (uint16_t)rounded[k];
        }
}

/* ---- Rows that a secret masks ------------------------------------------------------------------------------------------ */

/* Centred binomials: the ones in the low half of each word less those in its high half. */
INLINE W binomial(W words) {
    W x = wide_sub(words, wide_both(wide_right(words, 1), wide_all(0x55555555)));
    x = wide_add(wide_both(x, wide_all(0x33333333)), wide_both(wide_right(x, 2), wide_all(0x33333333)));
    x = wide_both(wide_add(x, wide_right(x, 4)), wide_all(0x0f0f0f0f));
    x = wide_both(wide_add(x, wide_right(x, 8)), wide_all(0x00ff00ff));
    return wide_sub(wide_both(x, wide_all(0xff)), wide_right(x, 16));
}

/* For each bit of a code its weight, negative where the bit is zero: below 2q. */
INLINE W message_of(W code, const struct lattice_weights *w, W twice) {
    W sum = wide_all(w->least);
    UNROLL for (int bit = 0; bit < LATTICE_FOLD; bit++) {
        const W is_set = wide_sub(wide_all(0), wide_both(wide_right(code, bit), wide_all(1)));
        sum = wide_add(sum, wide_both(is_set, wide_all(w->difference[bit])));
    }
    return wide_less_if_reached(sum, twice);
}

/* Row j of the noisy elements: the errors, and in the first coefficients the message. */
static void noisy_values(uint32_t values[2][LATTICE_DEGREE], const struct lattice_masking *m, size_t j,
                         const struct lattice_transform forward[2]) {
    uint8_t bytes[LATTICE_DEGREE] = {0};
    uint32_t codes[LATTICE_DEGREE];
    const size_t in_vectors = (m->rows + WIDE - 1) / WIDE * WIDE;
    memcpy(bytes, m->codes + j * m->rows, m->rows);
    for (size_t i = 0; i < LATTICE_DEGREE; i++) codes[i] = bytes[i];
    for (size_t t = 0; t < 2; t++) {
        const W q = wide_all(forward[t].q), twice = wide_all(2 * forward[t].q);
        for (size_t i = 0; i < LATTICE_DEGREE; i += WIDE)
            store_wide(values[t] + i, wide_add(binomial(load_wide(m->noise + j * LATTICE_DEGREE + i)), q));
        for (size_t i = 0; i < in_vectors; i += WIDE) {
            uint32_t message[WIDE];
            store_wide(message, message_of(load_wide(codes + i), &m->weights[t], twice));
            for (size_t k = m->rows - i; k < WIDE; k++) message[k] = 0; /* after the last row */
            store_wide(values[t] + i, wide_add(load_wide(values[t] + i), load_wide(message)));
        }
        lattice_forward(values[t], &forward[t]);
    }
}

/* Adds one row to the tiles, and its products with the row of the other matrix to the sums. */
INLINE void mask_row(const struct lattice_masking *m, size_t j, uint32_t values[2][LATTICE_DEGREE],
                     uint64_t sums[LATTICE_RANK][2][LATTICE_DEGREE]) {
    const uint32_t *own = m->matrix + j * LATTICE_RANK * 2 * LATTICE_DEGREE;
    const uint32_t *other = m->other + j * LATTICE_RANK * 2 * LATTICE_DEGREE;
    for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
        V row[2];
        UNROLL for (size_t t = 0; t < 2; t++) {
            const V noisy = load_half_words(values[t] + i);
            V sum = noisy;
            UNROLL for (size_t k = 0; k < LATTICE_RANK; k++) {
                const size_t at = (2 * k + t) * LATTICE_DEGREE + i;
                sum = add(sum, times_32(load_half_words(own + at), load_half_words(m->secret + at)));
            }
            row[t] = reduced(sum, &m->primes[t]);
            const V factor = m->sums_of_noisy ? noisy : row[t];
            UNROLL for (size_t k = 0; k < LATTICE_RANK; k++) {
                const V product = times_32(load_half_words(other + (2 * k + t) * LATTICE_DEGREE + i), factor);
                store_words(sums[k][t] + i, add(load_words(sums[k][t] + i), product));
            }
        }
        const size_t tile = (i / LATTICE_TILE * m->words + j) * LATTICE_TILE + i % LATTICE_TILE;
        store_words((uint64_t *)m->tiles + tile, either(row[0], to_high_half(row[1])));
    }
}

INLINE void fold_sums(uint64_t sums[LATTICE_RANK][2][LATTICE_DEGREE], const struct lattice_prime primes[2]) {
    for (size_t k = 0; k < LATTICE_RANK; k++)
        for (size_t t = 0; t < 2; t++)
            for (size_t i = 0; i < LATTICE_DEGREE; i += LANES)
                store_words(sums[k][t] + i, folded(load_words(sums[k][t] + i), all(primes[t].fold)));
}

static void lattice_mask(const struct lattice_masking *m) {
    uint64_t sums[LATTICE_RANK][2][LATTICE_DEGREE] = {{{0}}};
    struct lattice_transform forward[2];
    for (size_t t = 0; t < 2; t++) lattice_prepare(&forward[t], &m->primes[t], 0);
    for (size_t j = 0; j < m->words; j++) {
        uint32_t values[2][LATTICE_DEGREE];
        noisy_values(values, m, j, forward);
        mask_row(m, j, values, sums);
        if (j % LATTICE_LAZY == LATTICE_LAZY - 1) fold_sums(sums, m->primes);
    }
    for (size_t k = 0; k < LATTICE_RANK; k++)
        for (size_t t = 0; t < 2; t++)
            for (size_t i = 0; i < LATTICE_DEGREE; i += LANES)
                store_half_words(m->sums + (2 * k + t) * LATTICE_DEGREE + i,
                                 reduced(load_words(sums[k][t] + i), &m->primes[t]));
}

#include "lattice_reading.h"

#define LATTICE_KERNELS(name) {name, BODIES, lattice_transform, lattice_evaluate, lattice_mask, lattice_read}
