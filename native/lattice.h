/* The ring of encrypted blocks, in terms of what an instruction set's file defines before it includes this: the vector
 * type V of LANES 64-bit lanes, and the operations on it. `less_if_reached` subtracts a bound if the rest is not below
 * zero, of numbers of 32 bits. xtrace_core/lattice/ says what is computed, and computes the
 * same with NumPy.
 *
 * Elements of Z_q[X]/(X^1024 + 1) are worked on LANES at a time, coefficient i of each in a lane of vector i. So every
 * step of a transform is a step of whole vectors with one power of the root.
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

enum { HALF_TILE = LATTICE_TILE / 2, HALF_VECTORS = HALF_TILE / LANES };

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

static void lattice_forward(V a[LATTICE_DEGREE], const struct lattice_prime *p) {
    const V q = all(p->q), twice = all(2 * p->q);
    for (size_t blocks = 1, half = LATTICE_DEGREE / 2; blocks < LATTICE_DEGREE; blocks *= 2, half /= 2)
        for (size_t b = 0; b < blocks; b++) {
            const V power = all(p->powers[blocks + b]), quotient = all(p->quotients[blocks + b]);
            for (V *x = a + 2 * half * b, *end = x + half; x < end; x++) {
                const V first = less_if_reached(x[0], twice), second = times_fixed(x[half], power, quotient, q);
                x[0] = add(first, second);
                x[half] = add(sub(first, second), twice);
            }
        }
    for (size_t i = 0; i < LATTICE_DEGREE; i++) a[i] = less_if_reached(less_if_reached(a[i], twice), q);
}

static void lattice_inverse(V a[LATTICE_DEGREE], const struct lattice_prime *p) {
    const V q = all(p->q), twice = all(2 * p->q);
    for (size_t blocks = LATTICE_DEGREE / 2, half = 1; blocks > 0; blocks /= 2, half *= 2)
        for (size_t b = 0; b < blocks; b++) {
            const V power = all(p->inverse_powers[blocks + b]), quotient = all(p->inverse_quotients[blocks + b]);
            for (V *x = a + 2 * half * b, *end = x + half; x < end; x++) {
                const V first = x[0], second = x[half];
                x[0] = less_if_reached(add(first, second), twice);
                x[half] = times_fixed(add(sub(first, second), twice), power, quotient, q);
            }
        }
    const V scale = all(p->degree_inverse), quotient = all(p->degree_quotient);
    for (size_t i = 0; i < LATTICE_DEGREE; i++) a[i] = less_if_reached(times_fixed(a[i], scale, quotient, q), q);
}

/* ---- Transforms of arrays ------------------------------------------------------------------------------------------ */

/* Up to LANES rows of coefficients, one after the other in memory; empty lanes repeat the first. */
INLINE void load_elements(V a[LATTICE_DEGREE], const uint32_t *rows, size_t count) {
    for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
        for (size_t r = 0; r < LANES; r++) a[i + r] = load_half_words(rows + (r < count ? r : 0) * LATTICE_DEGREE + i);
        transpose(a + i);
    }
}

INLINE void store_elements(uint32_t *rows, size_t count, V a[LATTICE_DEGREE]) {
    for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
        uint64_t words[LANES];
        transpose(a + i);
        for (size_t r = 0; r < count; r++) {
            store_words(words, a[i + r]);
            for (size_t k = 0; k < LANES; k++) rows[r * LATTICE_DEGREE + i + k] = (uint32_t)words[k];
        }
    }
}

static void lattice_transform(const struct lattice_prime *prime, int inverse, uint32_t *out, const uint32_t *in,
                              size_t rows) {
    for (size_t row = 0; row < rows; row += LANES) {
        V a[LATTICE_DEGREE];
        const size_t count = rows - row < LANES ? rows - row : LANES;
        load_elements(a, in + row * LATTICE_DEGREE, count);
        if (inverse) lattice_inverse(a, prime);
        else lattice_forward(a, prime);
        store_elements(out + row * LATTICE_DEGREE, count, a);
    }
}

/* ---- Products of blocks with a query --------------------------------------------------------------------------------- */

enum { PREFETCH = 2048 }; /* bytes ahead of what is worked on */

/* Both residues of the sums of products of `blocks` bodies, which share what is loaded of the query. */
INLINE void sums_of_products(uint64_t (*const *sums)[LATTICE_DEGREE], const uint8_t *const *bodies, size_t blocks,
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
                store_words(sums[b][0] + place, reduced(low[b][i], &primes[0]));
                store_words(sums[b][1] + place, reduced(high[b][i], &primes[1]));
            }
    }
}

/* A residue as its part of a fraction of Q: the multiple of 2^-64 that this rounding gives is part of the format. */
INLINE V fraction_of(V residue, const struct lattice_prime *p) {
    const V part = less_if_reached(
        times_fixed(residue, all(p->cofactor_inverse), all(p->cofactor_quotient), all(p->q)), all(p->q));
    return add(times_32(part, all(p->scale)), to_high_half(times_32(part, all(p->scale >> 32))));
}

/* Values of up to LANES bodies. */
static void lattice_evaluate(const struct lattice_prime primes[2], uint16_t *const *values, const uint8_t *const *bodies,
                             size_t count, const uint8_t *query, size_t words) {
    uint64_t sums[LANES][2][LATTICE_DEGREE];
    for (size_t b = 0; b < count; b += 2) {
        uint64_t(*const into[2])[LATTICE_DEGREE] = {sums[b], sums[b + 1 < count ? b + 1 : b]};
        if (b + 1 < count) sums_of_products(into, bodies + b, 2, query, words, primes);
        else sums_of_products(into, bodies + b, 1, query, words, primes);
    }
    V a[2][LATTICE_DEGREE];
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
            for (size_t r = 0; r < LANES; r++) a[t][i + r] = load_words(sums[r < count ? r : 0][t] + i);
            transpose(a[t] + i);
        }
        lattice_inverse(a[t], &primes[t]);
    }
    for (size_t i = 0; i < LATTICE_DEGREE; i++) {
        uint64_t fractions[LANES];
        store_words(fractions, add(fraction_of(a[0][i], &primes[0]), fraction_of(a[1][i], &primes[1])));
        for (size_t r = 0; r < count; r++)
            values[r][i] = (uint16_t)((fractions[r] + (1ULL << (63 - LATTICE_VALUE_BITS))) >> (64 - LATTICE_VALUE_BITS));
    }
}

/* ---- Rows that a secret masks ------------------------------------------------------------------------------------------ */

/* What is worked on for LANES rows at once: for each row and prime the values of its noisy element. */
typedef uint64_t lattice_rows[LANES][2][LATTICE_DEGREE];

/* The values of up to LANES elements with these coefficients, of up to 2^42 in size. */
static void noisy_values(lattice_rows values, const int64_t *noisy, size_t count, const struct lattice_prime primes[2]) {
    for (size_t t = 0; t < 2; t++) {
        const V lift = all(primes[t].q << 13); /* a multiple of q that makes all of them positive */
        V a[LATTICE_DEGREE];
        for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
            for (size_t r = 0; r < LANES; r++) {
                const uint64_t *row = (const uint64_t *)noisy + (r < count ? r : 0) * LATTICE_DEGREE;
                a[i + r] = reduced(add(load_words(row + i), lift), &primes[t]);
            }
            transpose(a + i);
        }
        lattice_forward(a, &primes[t]);
        for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
            transpose(a + i);
            for (size_t r = 0; r < LANES; r++) store_words(values[r][t] + i, a[i + r]);
        }
    }
}

/* Adds one row to the tiles, and its products with the row of the other matrix to the sums. */
INLINE void mask_row(const struct lattice_masking *m, size_t j, uint64_t values[2][LATTICE_DEGREE],
                     uint64_t sums[LATTICE_RANK][2][LATTICE_DEGREE]) {
    const uint32_t *own = m->matrix + j * LATTICE_RANK * 2 * LATTICE_DEGREE;
    const uint32_t *other = m->other + j * LATTICE_RANK * 2 * LATTICE_DEGREE;
    for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
        V row[2];
        UNROLL for (size_t t = 0; t < 2; t++) {
            const V noisy = load_words(values[t] + i);
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
    for (size_t first = 0; first < m->words; first += LANES) {
        const size_t count = m->words - first < LANES ? m->words - first : LANES;
        lattice_rows values;
        noisy_values(values, m->noisy + first * LATTICE_DEGREE, count, m->primes);
        for (size_t r = 0; r < count; r++) mask_row(m, first + r, values[r], sums);
        fold_sums(sums, m->primes);
    }
    for (size_t k = 0; k < LATTICE_RANK; k++)
        for (size_t t = 0; t < 2; t++)
            for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
                uint64_t words[LANES];
                store_words(words, reduced(load_words(sums[k][t] + i), &m->primes[t]));
                for (size_t r = 0; r < LANES; r++)
                    m->sums[(2 * k + t) * LATTICE_DEGREE + i + r] = (uint32_t)words[r];
            }
}

#define LATTICE_KERNELS(name) {name, LANES, lattice_transform, lattice_evaluate, lattice_mask}
