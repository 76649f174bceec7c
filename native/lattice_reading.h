/* Reading answers about encrypted blocks: from the values of a block to distances, in one pass. lattice.h includes this.
 *
 * What hides the values of a block for a query is the product of the block's secret with what the query kept, plus that
 * of the block's hints with the query's secret. xtrace_core/lattice/reading.py computes the same with NumPy.
 */

enum { FRACTION_BITS = 34 };

/* What readings of one call share. */
struct lattice_reader {
    const struct lattice_reading *reading;
    struct lattice_transform forward, inverse;
};

/* Values of a block's secret, and of the hints of one of its slabs. */
typedef uint32_t lattice_vector[LATTICE_RANK][LATTICE_DEGREE];

static void read_secret(lattice_vector secret, const uint8_t *draws, const struct lattice_reader *r) {
    const uint32_t minus_one = r->forward.q - 1;
    for (size_t k = 0; k < LATTICE_RANK; k++) {
        for (size_t i = 0; i < LATTICE_DEGREE; i++) secret[k][i] = draws[k * LATTICE_DEGREE + i] + minus_one;
        lattice_forward(secret[k], &r->forward);
    }
}

/* Hints have 20 bits; two of them are five bytes. */
static void read_hints(lattice_vector hints, const uint8_t *packed, const struct lattice_reader *r) {
    const uint64_t q = r->forward.q, half = 1ULL << (LATTICE_HINT_BITS - 1), mask = (1ULL << LATTICE_HINT_BITS) - 1;
    uint32_t *out = hints[0];
    for (size_t i = 0; i < LATTICE_RANK * LATTICE_DEGREE; i += 2, packed += 5) {
        uint32_t low;
        memcpy(&low, packed, sizeof low);
        const uint64_t pair = low | (uint64_t)packed[4] << 32;
        out[i] = (uint32_t)(((pair & mask) * q + half) >> LATTICE_HINT_BITS);
        out[i + 1] = (uint32_t)(((pair >> LATTICE_HINT_BITS) * q + half) >> LATTICE_HINT_BITS);
    }
    for (size_t k = 0; k < LATTICE_RANK; k++) lattice_forward(hints[k], &r->forward);
}

static void read_mask(uint32_t mask[LATTICE_DEGREE], lattice_vector secret, lattice_vector hints, const uint32_t *kept,
                      const uint32_t *asked, const struct lattice_reader *r) {
    for (size_t i = 0; i < LATTICE_DEGREE; i += LANES) {
        V sum = zero(); /* six products of 60 bits */
        UNROLL for (size_t k = 0; k < LATTICE_RANK; k++) {
            const size_t at = k * LATTICE_DEGREE + i;
            sum = add(sum, times_32(load_half_words(secret[k] + i), load_half_words(kept + at)));
            sum = add(sum, times_32(load_half_words(hints[k] + i), load_half_words(asked + at)));
        }
        store_half_words(mask + i, reduced(sum, r->reading->prime));
    }
    lattice_inverse(mask, &r->inverse);
}

/* x / q in units of 2^-34, rounded down, of x below q. */
INLINE V unit_fraction(V x, const struct lattice_prime *p) {
    const V product = add(times_32(x, all(p->scale)), to_high_half(times_32(x, all(p->scale >> 32))));
    const V quotient = right(product, 64 - FRACTION_BITS); /* or one less */
    const V rest = both(sub(zero(), times_32(quotient, all(p->q))), all(0xffffffff));
    return sub(add(quotient, all(1)), right(sub(rest, all(p->q)), 63));
}

/* The distances of LANES values; the top bits of what it returns say which of them are not valid. */
INLINE V read_values(uint32_t *distances, const uint32_t *values, const uint32_t *mask, const uint64_t *slab,
                     const struct lattice_reading *reading) {
    const V bits = all((1ULL << FRACTION_BITS) - 1), least = all((1ULL << (FRACTION_BITS - 1)) - reading->max_noise);
    const V hidden = unit_fraction(load_half_words(mask), reading->prime);
    const V value = left(load_half_words(values), FRACTION_BITS - LATTICE_VALUE_BITS);
    const V fraction = both(sub(value, hidden), bits);
    /* The sum of n signs is n less twice the distance; half a unit more rounds to the nearest. */
    const V shifted = add(add(left(fraction, 9), fraction), all((slab[0] + 1) << (FRACTION_BITS - 1)));
    const V found = less_if_reached(right(shifted, FRACTION_BITS), all(LATTICE_BASE));
    const V noise = sub(both(shifted, bits), least);
    store_half_words(distances, found);
    return either(either(noise, sub(all(2 * reading->max_noise), noise)), sub(all(slab[1]), found));
}

/* Values have 12 bits; two of them are three bytes. Those after the last are zero, up to a whole vector. */
static void unpack_values(uint32_t *values, const uint8_t *packed, size_t count) {
    memset(values + count / 2 * 2, 0, (LATTICE_DEGREE - count / 2 * 2) * sizeof *values);
    for (size_t i = 0; i + 2 <= count; i += 2, packed += 3) {
        values[i] = packed[0] | (packed[1] & 15u) << 8;
        values[i + 1] = packed[1] >> 4 | (uint32_t)packed[2] << 4;
    }
    if (count % 2) values[count - 1] = packed[0] | (packed[1] & 15u) << 8;
}

/* Those of the slots, which the service named. */
static void take_slots(uint32_t *mask, const int64_t *slots, size_t count) {
    if (count == 0 || (size_t)slots[count - 1] == count - 1) return;
    for (size_t i = 0; i < count; i++) mask[i] = mask[slots[i]]; /* slots are ascending: none is overwritten before */
}

/* The distances of one slab and query; not zero if one is not valid. */
static uint64_t read_slab(uint32_t *distances, const uint8_t *packed, uint32_t *mask, const struct lattice_block *block,
                          const uint64_t *slab, const struct lattice_reading *reading) {
    uint32_t values[LATTICE_DEGREE];
    uint64_t bad = 0, words[LANES];
    V all_bad = zero();
    unpack_values(values, packed, block->count);
    take_slots(mask, block->slots, block->count);
    size_t i = 0;
    for (; i + LANES <= block->count; i += LANES)
        all_bad = either(all_bad, read_values(distances + i, values + i, mask + i, slab, reading));
    store_words(words, all_bad);
    for (size_t k = 0; k < LANES; k++) bad |= words[k];
    if (i < block->count) {
        store_words(words, read_values(distances + i, values + i, mask + i, slab, reading));
        for (size_t k = 0; i + k < block->count; k++) bad |= words[k];
    }
    return bad >> 63;
}

static void read_block(const struct lattice_reader *r, const struct lattice_block *block) {
    const struct lattice_reading *reading = r->reading;
    const size_t value_bytes = (block->count * LATTICE_VALUE_BITS + 7) / 8, slab_numbers = LATTICE_RANK * LATTICE_DEGREE;
    lattice_vector secret, hints;
    uint64_t bad = 0;
    read_secret(secret, block->secret, r);
    for (size_t slab = 0; slab < reading->slabs; slab++) {
        read_hints(hints, block->hints + slab * slab_numbers * LATTICE_HINT_BITS / 8, r);
        for (size_t query = 0; query < reading->queries; query++) {
            const size_t number = query * reading->slabs + slab;
            uint16_t *out = reading->distances + query * reading->total + block->first;
            uint32_t mask[LATTICE_DEGREE], found[LATTICE_DEGREE];
            read_mask(mask, secret, hints, reading->kept + number * slab_numbers, reading->asked + query * slab_numbers, r);
            bad |= read_slab(found, block->values + number * value_bytes, mask, block, reading->slab + 2 * slab, reading);
            for (size_t i = 0; i < block->count; i++) out[i] = (uint16_t)((slab ? out[i] : 0) + found[i]);
        }
    }
    *block->valid = (uint8_t)(bad ^ 1);
}

static void lattice_read(const struct lattice_reading *reading, const struct lattice_block *blocks, size_t count) {
    struct lattice_reader r = {.reading = reading};
    lattice_prepare(&r.forward, reading->prime, 0);
    lattice_prepare(&r.inverse, reading->prime, 1);
    for (size_t b = 0; b < count; b++) read_block(&r, &blocks[b]);
}
