/* The algorithms, in terms of what an instruction set's file defines before it includes this: the vector type V of LANES
 * 64-bit lanes, limbs of LIMB_BITS bits, sums of products in lazy columns (`set_to_product`, `set_to_products`,
 * `set_to_squares`, `set_to_sum`, `add_table`), Montgomery's reduction (`reduce`, `reduce_both`, `fold`) and the way
 * between rows of bytes and limbs (`load_rows`, `store_rows`).
 *
 * Integers modulo p^2 are written to base p (`struct ring`): x = x0 + x1 p. Then
 *
 *     x y = x0 y0 + (x0 y1 + x1 y0) p   modulo p^2
 *
 * takes three products of half the length instead of four. Montgomery's reduction of the first, (x0 y0 + m p) / R = r0,
 * says x0 y0 = r0 R - m p, so its digits m go into the second digit: r1 = (x0 y1 + x1 y0 - m) / R modulo p. What the
 * second reduction adds is a multiple of p in the second digit, thus of p^2, and is forgotten. To keep every limb of
 * that digit from falling below zero, `lift`, a multiple of p whose limbs are all at least 2^LIMB_BITS - 1, is added.
 *
 * Bounds, with R >= 2^8 p: from digits below 1.1 p come r0 < (1.21 p^2 + R p) / R < 1.01 p and
 * r1 < (2.42 p^2 + lift + R p) / R < 1.02 p + 2 < 1.1 p.
 *
 * Which entries of an indexed table of powers are read follows from the exponents. Everything else here takes the same
 * steps and touches the same memory for all values: of other tables all entries of a window are read, and masked.
 */

INLINE void clear(V *x, size_t n) {
    for (size_t k = 0; k < n; k++) x[k] = zero();
}

/* Limbs below 2^LIMB_BITS from lazy columns; what is carried out of the last is dropped. */
INLINE void carry(V *out, const V *columns, size_t n) {
    V over = zero();
    for (size_t k = 0; k < n; k++) {
        V t = add(columns[k], over);
        out[k] = low_bits(t);
        over = high_bits(t);
    }
}

/* x below twice the modulus becomes x modulo the modulus; gives all ones in the lanes where something was subtracted. */
INLINE V subtract_if_reached(V *x, const uint64_t *modulus, size_t n) {
    V borrow = zero();
    for (size_t k = 0; k < n; k++) borrow = top_bit(sub(sub(x[k], all(modulus[k])), borrow));
    const V reached = sub(borrow, all(1));
    borrow = zero();
    for (size_t k = 0; k < n; k++) {
        V t = sub(sub(x[k], both(all(modulus[k]), reached)), borrow);
        x[k] = low_bits(t);
        borrow = top_bit(t);
    }
    return reached;
}

/* For each of the digits that a window has, all ones in the lanes that hold it. */
INLINE void masks_of_digits(V mask[WINDOW_SIZE], V digits) {
    for (uint64_t j = 0; j < WINDOW_SIZE; j++)
        mask[j] = sub(zero(), top_bit(sub(differing(digits, all(j)), all(1))));
}

static size_t group_size(size_t rows, size_t row) { return rows - row < LANES ? rows - row : LANES; }

/* ---- Linear maps ------------------------------------------------------------------------------------------------ */

/* The next rows come from memory while these are worked on, instead of after. */
INLINE void fetch_rows(const uint8_t *rows, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(rows + i);
}

static void linear(const struct linear_map *map, uint8_t *out, const uint8_t *in, size_t rows) {
    V x[MAX_LIMBS + 8], columns[MAX_LIMBS + 8], digits[2];
    const size_t n = map->out_limbs;
    for (size_t row = 0; row < rows; row += LANES) {
        const size_t live = group_size(rows, row), following = row + LANES < rows ? group_size(rows, row + LANES) : 0;
        load_rows(x, in + row * map->in_bytes, live, map->in_bytes, map->in_limbs);
        fetch_rows(in + (row + live) * map->in_bytes, following * map->in_bytes);
        add_table(columns, x, map->in_limbs, map->table, map->plus, n);
        fold(x, columns, digits, map->modulus, map->inverse, n);
        subtract_if_reached(x, map->modulus, n);
        store_rows(out + row * map->out_bytes, live, map->out_bytes, x);
    }
}

/* ---- Integers modulo p^2 ----------------------------------------------------------------------------------------- */

/* The product from its lazy columns. */
INLINE void reduce_and_carry(V *r, V *first, V *second, const struct ring *ring) {
    const size_t h = ring->half;
    V over = zero(), second_over = zero();
    reduce_both(first, second, ring);
    for (size_t k = 0; k < h; k++) {
        const V t = add(first[h + k], over), u = add(second[h + k], second_over);
        r[k] = low_bits(t);
        r[h + k] = low_bits(u);
        over = high_bits(t);
        second_over = high_bits(u);
    }
}

/* r = a b / R; r may be a or b. */
NOINLINE void multiply(V *r, const V *a, const V *b, const struct ring *ring) {
    V first[2 * MAX_HALF], second[2 * MAX_HALF];
    set_to_products(first, second, a, b, ring->half);
    reduce_and_carry(r, first, second, ring);
}

/* r = a a / R. */
NOINLINE void square(V *r, const V *a, const struct ring *ring) {
    V first[2 * MAX_HALF], second[2 * MAX_HALF];
    set_to_squares(first, second, a, ring->half);
    reduce_and_carry(r, first, second, ring);
}

/* r = a times a number below p, over R and modulo p; h limbs. */
static void multiply_shared(V *r, const V *a, const uint64_t *shared, const struct ring *ring) {
    V b[MAX_HALF], columns[2 * MAX_HALF], m[MAX_HALF];
    const size_t h = ring->half;
    for (size_t k = 0; k < h; k++) b[k] = all(shared[k]);
    set_to_product(columns, a, b, h);
    reduce(columns, m, ring->prime, ring->inverse, h);
    carry(r, columns + h, h);
}

/* Both digits below p, as every element is written in one way only. */
static void make_canonical(V *x, const struct ring *ring) {
    const size_t h = ring->half;
    const V over = subtract_if_reached(x, ring->prime, h);
    x[h] = sub(x[h], over); /* all ones is -1 */
    carry(x + h, x + h, h);
    subtract_if_reached(x + h, ring->prime, h);
}

/* ---- In and out -------------------------------------------------------------------------------------------------- */

/* Rows of any size to digits. The reduction of the first digit by two limbs goes into the second as in a product. */
static void load_element(V *x, const struct ring *ring, const struct reduction *in, const uint8_t *rows, size_t live) {
    V limbs[MAX_LIMBS + 8], columns[MAX_HALF + 2], digits[2], forgotten[2];
    const size_t h = ring->half;
    load_rows(limbs, rows, live, in->in_bytes, in->in_limbs);
    add_table(columns, limbs, in->in_limbs, in->table, in->plus, h);
    fold(x, columns, digits, ring->prime, ring->inverse[0], h);
    add_table(columns, limbs, in->in_limbs, in->table + h * in->in_limbs, in->plus + h, h);
    for (int k = 0; k < 2; k++) columns[k] = add(columns[k], sub(all(LIMB_MASK), digits[k]));
    fold(x + h, columns, forgotten, ring->prime, ring->inverse[0], h);
}

/* x = (1 + message p) x / R, or x / R without a message, in bytes. */
static void store_encrypted(V *x, const struct ring *ring, const struct messages *messages, uint8_t *out, size_t row,
                            size_t live) {
    V message[MAX_HALF + 8], scaled[MAX_HALF], p[MAX_HALF], columns[2 * MAX_HALF + 8], second[2 * MAX_HALF];
    const size_t h = ring->half;
    message[0] = zero(); /* or a compiler that thinks of h = 0 warns */
    clear(message, h);
    if (messages->rows) load_rows(message, messages->rows + row * messages->bytes, live, messages->bytes, h);
    multiply_shared(scaled, message, ring->message, ring);
    set_to_sum(columns, second, x, scaled, h);
    reduce_and_carry(x, columns, second, ring);
    make_canonical(x, ring);
    for (size_t k = 0; k < h; k++) p[k] = all(ring->prime[k]);
    clear(columns + 2 * h, 8);
    set_to_product(columns, x + h, p, h);
    for (size_t k = 0; k < h; k++) columns[k] = add(columns[k], x[k]);
    carry(columns, columns, 2 * h);
    store_rows(out + row * ring->square_bytes, live, ring->square_bytes, columns);
}

/* What x = 1 + y p says: y times the factor, and whether the first digit is 1. */
static void store_reading(V *x, const struct ring *ring, const struct reading *reading, size_t row, size_t live) {
    V y[MAX_HALF + 8], wrong;
    uint64_t wrong_lanes[LANES];
    const size_t h = ring->half;
    make_canonical(x, ring);
    wrong = differing(x[0], all(1));
    for (size_t k = 1; k < h; k++) wrong = add(wrong, x[k]); /* of limbs below 2^LIMB_BITS: zero only if all are */
    store_words(wrong_lanes, wrong);
    for (size_t i = 0; i < live; i++) reading->valid[row + i] = wrong_lanes[i] == 0;
    multiply_shared(y, x + h, reading->factor, ring);
    subtract_if_reached(y, ring->prime, h);
    clear(y + h, 8);
    store_rows(reading->out + row * ring->prime_bytes, live, ring->prime_bytes, y);
}

/* ---- Powers of a fixed base -------------------------------------------------------------------------------------- */

static void store_entries(uint64_t *entries, size_t stride, const V *x, size_t words, size_t live) {
    for (size_t g = 0; g < words; g += LANES) {
        V r[LANES];
        UNROLL for (int i = 0; i < LANES; i++) r[i] = x[g + i];
        transpose(r);
        for (size_t i = 0; i < live; i++) store_words(entries + i * stride + g, r[i]);
    }
}

/* The entries of as many windows at once as there are lanes: 1, base, base^2, ... */
static void table(const struct ring *ring, const struct reduction *in, unsigned window_bits, uint64_t *entries,
                  const uint8_t *bases, size_t windows) {
    V base[2 * MAX_HALF + 8], power[2 * MAX_HALF + 8];
    const size_t h = ring->half, words = entry_limbs(h), stride = window_limbs(h, window_bits);
    for (size_t window = 0; window < windows; window += LANES) {
        const size_t live = group_size(windows, window);
        uint64_t *at = entries + window * stride;
        load_element(base, ring, in, bases + window * in->in_bytes, live);
        clear(power, 2 * h + 8);
        for (size_t k = 0; k < 2 * h; k++) power[k] = all(ring->one[k]);
        for (size_t j = 0; j < stride; j += words) {
            store_entries(at + j, stride, power, words, live);
            multiply(power, power, base, ring);
        }
    }
}

/* A byte of the exponent in a lane. Empty lanes take the first row's. */
INLINE uint8_t exponent_byte(const struct powers *powers, const uint8_t *exponents, size_t live, size_t lane,
                             size_t byte) {
    return exponents[(lane < live ? lane : 0) * powers->exponent_bytes + byte];
}

INLINE const uint64_t *entry_of(const struct powers *powers, size_t words, const uint8_t *exponents, size_t live,
                                size_t window, size_t lane) {
    const uint8_t byte = exponent_byte(powers, exponents, live, lane, window);
    return powers->entries + ((window << INDEXED_BITS) + byte) * words;
}

/* The entries whose addresses are the bytes of the exponents. */
INLINE void index_entries(V *x, const struct powers *powers, size_t words, const uint8_t *exponents, size_t live,
                          size_t window) {
    const uint64_t *entries[LANES];
    for (size_t i = 0; i < LANES; i++) entries[i] = entry_of(powers, words, exponents, live, window, i);
    DO_NOT_UNROLL for (size_t g = 0; g < words; g += LANES) {
        V r[LANES];
        UNROLL for (int i = 0; i < LANES; i++) r[i] = load_words(entries[i] + g);
        transpose(r);
        UNROLL for (int i = 0; i < LANES; i++) x[g + i] = r[i];
    }
}

/* The same entries without showing which: all of the window are read, and those of other digits masked away. */
NOINLINE void select_entries(V *x, const struct powers *powers, size_t words, const uint8_t *exponents, size_t live,
                             size_t window) {
    const uint64_t *entries = powers->entries + (window << WINDOW_BITS) * words;
    uint64_t digits[LANES];
    V mask[WINDOW_SIZE];
    for (size_t i = 0; i < LANES; i++)
        digits[i] = exponent_byte(powers, exponents, live, i, window / 2) >> window % 2 * WINDOW_BITS & (WINDOW_SIZE - 1);
    masks_of_digits(mask, load_words(digits));
    DO_NOT_UNROLL for (size_t k = 0; k < words; k += 8) {
        V sum[8];
        UNROLL for (int g = 0; g < 8; g++) sum[g] = zero();
        DO_NOT_UNROLL for (size_t j = 0; j < WINDOW_SIZE; j++)
            UNROLL for (int g = 0; g < 8; g++) sum[g] = or_masked(sum[g], all(entries[j * words + k + g]), mask[j]);
        UNROLL for (int g = 0; g < 8; g++) x[k + g] = sum[g];
    }
}

INLINE void load_entries(V *x, const struct powers *powers, size_t words, const uint8_t *exponents, size_t live,
                         size_t window) {
    if (powers->window_bits == WINDOW_BITS) select_entries(x, powers, words, exponents, live, window);
    else index_entries(x, powers, words, exponents, live, window);
}

static size_t windows_of(const struct powers *powers) { return 8 * powers->exponent_bytes / powers->window_bits; }

INLINE void fetch_entries(const struct powers *powers, size_t words, const uint8_t *exponents, size_t live,
                          size_t window) {
    if (powers->window_bits == WINDOW_BITS) return; /* in a row, as processors expect */
    for (size_t i = 0; i < LANES; i++) {
        const uint64_t *entry = entry_of(powers, words, exponents, live, window, i);
        for (size_t k = 0; k < words; k += 8) __builtin_prefetch(entry + k);
    }
}

/* x times the entries from window `first` on. */
static void multiply_by_entries(V *x, const struct ring *ring, const struct powers *powers, const uint8_t *exponents,
                                size_t live, size_t first) {
    V entry[2 * MAX_HALF + 8];
    const size_t words = entry_limbs(ring->half);
    const size_t windows = windows_of(powers);
    for (size_t window = first; window < windows; window++) {
        load_entries(entry, powers, words, exponents, live, window);
        if (window + 1 < windows) fetch_entries(powers, words, exponents, live, window + 1);
        multiply(x, x, entry, ring);
    }
}

static void fixed_encrypt(const struct ring *ring, const struct powers *powers, const struct messages *messages,
                          uint8_t *out, const uint8_t *exponents, size_t rows) {
    V x[2 * MAX_HALF + 8];
    for (size_t row = 0; row < rows; row += LANES) {
        const size_t live = group_size(rows, row);
        const uint8_t *own = exponents + row * powers->exponent_bytes;
        load_entries(x, powers, entry_limbs(ring->half), own, live, 0);
        multiply_by_entries(x, ring, powers, own, live, 1);
        store_encrypted(x, ring, messages, out, row, live);
    }
}

static void fixed_read(const struct ring *ring, const struct powers *powers, const struct reduction *in,
                       const struct reading *reading, const uint8_t *in_rows, const uint8_t *exponents, size_t rows) {
    V x[2 * MAX_HALF + 8];
    for (size_t row = 0; row < rows; row += LANES) {
        const size_t live = group_size(rows, row);
        const uint8_t *own = exponents + row * powers->exponent_bytes;
        fetch_entries(powers, entry_limbs(ring->half), own, live, 0);
        load_element(x, ring, in, in_rows + row * in->in_bytes, live);
        multiply_by_entries(x, ring, powers, own, live, 0);
        store_reading(x, ring, reading, row, live);
    }
}

/* ---- Powers with an exponent that all rows share ------------------------------------------------------------------ */

/* One of the powers, without showing which: all are read, and the others masked away. Those of a limb stand together. */
static void select_power(V *x, const V *powers, size_t words, uint8_t digit) {
    V mask[WINDOW_SIZE];
    masks_of_digits(mask, all(digit));
    DO_NOT_UNROLL for (size_t k = 0; k < words; k++) {
        V even = zero(), odd = zero();
        UNROLL for (int j = 0; j < WINDOW_SIZE; j += 2) {
            even = or_masked(even, powers[WINDOW_SIZE * k + j], mask[j]);
            odd = or_masked(odd, powers[WINDOW_SIZE * k + j + 1], mask[j + 1]);
        }
        x[k] = add(even, odd);
    }
}

static void note_power(V *powers, const V *x, size_t words, size_t j) {
    for (size_t k = 0; k < words; k++) powers[WINDOW_SIZE * k + j] = x[k];
}

/* x^exponent * R from x * R, by windows of fixed width: the steps do not depend on the exponent, but for its length. */
static void raise(V *x, const struct ring *ring, const struct exponent *exponent) {
    V powers[WINDOW_SIZE * 2 * MAX_HALF], factor[2 * MAX_HALF];
    const size_t words = 2 * ring->half;
    for (size_t k = 0; k < words; k++) factor[k] = all(ring->one[k]);
    note_power(powers, factor, words, 0);
    note_power(powers, x, words, 1);
    square(factor, x, ring);
    note_power(powers, factor, words, 2);
    for (size_t j = 3; j < WINDOW_SIZE; j++) {
        multiply(factor, factor, x, ring);
        note_power(powers, factor, words, j);
    }
    select_power(x, powers, words, exponent->digits[0]);
    for (size_t window = 1; window < exponent->windows; window++) {
        for (int i = 0; i < WINDOW_BITS; i++) square(x, x, ring);
        select_power(factor, powers, words, exponent->digits[window]);
        multiply(x, x, factor, ring);
    }
}

static void power_encrypt(const struct ring *ring, const struct exponent *exponent, const struct reduction *in,
                          const struct messages *messages, uint8_t *out, const uint8_t *in_rows, size_t rows) {
    V x[2 * MAX_HALF + 8];
    for (size_t row = 0; row < rows; row += LANES) {
        const size_t live = group_size(rows, row);
        load_element(x, ring, in, in_rows + row * in->in_bytes, live);
        raise(x, ring, exponent);
        store_encrypted(x, ring, messages, out, row, live);
    }
}

static void power_read(const struct ring *ring, const struct exponent *exponent, const struct reduction *in,
                       const struct reading *reading, const uint8_t *in_rows, size_t rows) {
    V x[2 * MAX_HALF + 8], one[2 * MAX_HALF];
    clear(one, 2 * ring->half);
    one[0] = all(1);
    for (size_t row = 0; row < rows; row += LANES) {
        const size_t live = group_size(rows, row);
        load_element(x, ring, in, in_rows + row * in->in_bytes, live);
        raise(x, ring, exponent);
        multiply(x, x, one, ring);
        store_reading(x, ring, reading, row, live);
    }
}

#define KERNELS(name_, doubles_)                                                                                  \
    {                                                                                                             \
        .name = name_, .lanes = LANES, .tile = TILE, .limb_bits = LIMB_BITS, .max_limbs = MAX_LIMBS,              \
        .max_half = MAX_HALF, .tables_of_doubles = doubles_, .linear = linear, .table = table,                    \
        .fixed_encrypt = fixed_encrypt, .fixed_read = fixed_read, .power_encrypt = power_encrypt,                 \
        .power_read = power_read,                                                                                 \
    }
