/* Transforms of ring elements, in terms of the vector type W of WIDE 32-bit lanes: `wide_low` and `wide_high` are the two
 * halves of products. lattice.h includes this.
 *
 * One element is worked on at a time, which the fastest cache holds. Steps of distance WIDE or more combine whole vectors
 * with one power of the root. For the last ones, WIDE vectors are transposed, so that those combine whole vectors too,
 * with a power for each lane; `struct lattice_tail` holds these powers in the order of their use.
 */

enum { WIDE_TILE = WIDE * WIDE, WIDE_TILES = LATTICE_DEGREE / WIDE_TILE };

struct lattice_tail {
    uint32_t powers[LATTICE_DEGREE], quotients[LATTICE_DEGREE];
};

/* What a transform needs of a prime. */
struct lattice_transform {
    uint32_t q, degree_inverse, degree_quotient;
    const uint32_t *powers, *quotients;
    struct lattice_tail tail;
};

/* The place of a tail's vector: step `blocks` of a tile has as many powers, after those of the steps with fewer. */
INLINE size_t tail_vector(size_t tile, size_t blocks, size_t block) {
    return (tile * (WIDE - 1) + blocks - 1 + block) * WIDE;
}

static void lattice_prepare(struct lattice_transform *t, const struct lattice_prime *p, int inverse) {
    t->q = (uint32_t)p->q;
    t->degree_inverse = (uint32_t)p->degree_inverse;
    t->degree_quotient = (uint32_t)p->degree_quotient;
    t->powers = inverse ? p->inverse_powers : p->powers;
    t->quotients = inverse ? p->inverse_quotients : p->quotients;
    for (size_t tile = 0; tile < WIDE_TILES; tile++)
        for (size_t blocks = 1; blocks < WIDE; blocks *= 2)
            for (size_t block = 0; block < blocks; block++)
                for (size_t lane = 0; lane < WIDE; lane++) {
                    const size_t from = (LATTICE_DEGREE / WIDE + tile * WIDE + lane) * blocks + block;
                    const size_t to = tail_vector(tile, blocks, block) + lane;
                    t->tail.powers[to] = t->powers[from];
                    t->tail.quotients[to] = t->quotients[from];
                }
}

INLINE W wide_less_if_reached(W a, W bound) { return wide_least(a, wide_sub(a, bound)); }

/* As `times_fixed`: below 2q. */
INLINE W wide_times_fixed(W x, W number, W quotient, W q) {
    return wide_sub(wide_low(x, number), wide_low(wide_high(x, quotient), q));
}

/* From numbers below 4q to numbers below 4q. */
INLINE void combine(W *first, W *second, W power, W quotient, W q, W twice) {
    const W a = wide_less_if_reached(*first, twice), b = wide_times_fixed(*second, power, quotient, q);
    *first = wide_add(a, b);
    *second = wide_add(wide_sub(a, b), twice);
}

/* From numbers below 2q to numbers below 2q. */
INLINE void separate(W *first, W *second, W power, W quotient, W q, W twice) {
    const W a = *first, b = *second;
    *first = wide_less_if_reached(wide_add(a, b), twice);
    *second = wide_times_fixed(wide_add(wide_sub(a, b), twice), power, quotient, q);
}

/* One step inside a transposed tile. */
INLINE void tail_step(W r[WIDE], size_t half, size_t tile, int inverse, const struct lattice_transform *t, W q, W twice) {
    const size_t blocks = WIDE / 2 / half;
    UNROLL for (size_t block = 0; block < blocks; block++) {
        const size_t at = tail_vector(tile, blocks, block);
        const W power = load_wide(t->tail.powers + at), quotient = load_wide(t->tail.quotients + at);
        UNROLL for (size_t i = 0; i < half; i++) {
            W *first = &r[2 * half * block + i];
            if (inverse) separate(first, first + half, power, quotient, q, twice);
            else combine(first, first + half, power, quotient, q, twice);
        }
    }
}

/* Coefficients below 4q to values below q. */
static void lattice_forward(uint32_t a[LATTICE_DEGREE], const struct lattice_transform *t) {
    const W q = wide_all(t->q), twice = wide_all(2 * t->q);
    size_t blocks = 1;
    for (size_t half = LATTICE_DEGREE / 2; half >= WIDE; blocks *= 2, half /= 2)
        for (size_t b = 0; b < blocks; b++) {
            const W power = wide_all(t->powers[blocks + b]), quotient = wide_all(t->quotients[blocks + b]);
            for (uint32_t *x = a + 2 * half * b, *end = x + half; x < end; x += WIDE) {
                W first = load_wide(x), second = load_wide(x + half);
                combine(&first, &second, power, quotient, q, twice);
                store_wide(x, first);
                store_wide(x + half, second);
            }
        }
    for (size_t tile = 0; tile < WIDE_TILES; tile++) {
        W r[WIDE];
        uint32_t *x = a + tile * WIDE_TILE;
        UNROLL for (size_t i = 0; i < WIDE; i++) r[i] = load_wide(x + WIDE * i);
        wide_transpose(r);
        if (WIDE >= 16) tail_step(r, 8, tile, 0, t, q, twice);
        if (WIDE >= 8) tail_step(r, 4, tile, 0, t, q, twice);
        if (WIDE >= 4) tail_step(r, 2, tile, 0, t, q, twice);
        if (WIDE >= 2) tail_step(r, 1, tile, 0, t, q, twice);
        wide_transpose(r);
        UNROLL for (size_t i = 0; i < WIDE; i++)
            store_wide(x + WIDE * i, wide_less_if_reached(wide_less_if_reached(r[i], twice), q));
    }
}

/* Values below 2q to coefficients below q. */
static void lattice_inverse(uint32_t a[LATTICE_DEGREE], const struct lattice_transform *t) {
    const W q = wide_all(t->q), twice = wide_all(2 * t->q);
    for (size_t tile = 0; tile < WIDE_TILES; tile++) {
        W r[WIDE];
        uint32_t *x = a + tile * WIDE_TILE;
        UNROLL for (size_t i = 0; i < WIDE; i++) r[i] = load_wide(x + WIDE * i);
        wide_transpose(r);
        if (WIDE >= 2) tail_step(r, 1, tile, 1, t, q, twice);
        if (WIDE >= 4) tail_step(r, 2, tile, 1, t, q, twice);
        if (WIDE >= 8) tail_step(r, 4, tile, 1, t, q, twice);
        if (WIDE >= 16) tail_step(r, 8, tile, 1, t, q, twice);
        wide_transpose(r);
        UNROLL for (size_t i = 0; i < WIDE; i++) store_wide(x + WIDE * i, r[i]);
    }
    size_t half = WIDE;
    for (size_t blocks = LATTICE_DEGREE / 2 / WIDE; blocks > 0; blocks /= 2, half *= 2)
        for (size_t b = 0; b < blocks; b++) {
            const W power = wide_all(t->powers[blocks + b]), quotient = wide_all(t->quotients[blocks + b]);
            for (uint32_t *x = a + 2 * half * b, *end = x + half; x < end; x += WIDE) {
                W first = load_wide(x), second = load_wide(x + half);
                separate(&first, &second, power, quotient, q, twice);
                store_wide(x, first);
                store_wide(x + half, second);
            }
        }
    const W scale = wide_all(t->degree_inverse), quotient = wide_all(t->degree_quotient);
    for (size_t i = 0; i < LATTICE_DEGREE; i += WIDE)
        store_wide(a + i, wide_less_if_reached(wide_times_fixed(load_wide(a + i), scale, quotient, q), q));
}

static void lattice_transform(const struct lattice_prime *prime, int inverse, uint32_t *out, const uint32_t *in,
                              size_t rows) {
    struct lattice_transform t;
    lattice_prepare(&t, prime, inverse);
    memcpy(out, in, rows * LATTICE_DEGREE * sizeof *out);
    for (size_t row = 0; row < rows; row++) {
        if (inverse) lattice_inverse(out + row * LATTICE_DEGREE, &t);
        else lattice_forward(out + row * LATTICE_DEGREE, &t);
    }
}
