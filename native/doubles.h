/* Products of limbs of 51 bits by fused multiplication and addition of doubles, which vectors have where they have no
 * multiplication of long integers. The file of an instruction set defines, before it includes this: LANES, the types V of
 * 64-bit words and D of doubles, and the operations on them.
 *
 * Let H = 1.5 * 2^103 and L = 1.5 * 2^52. In the doubles around H neighbours are 2^51 apart, so H + a b, rounded, is H
 * plus a multiple of 2^51: the high part of the product. L + H - (H + high) is exact, and so is that plus a b, which is L
 * plus the low part. As words, the doubles around H and around L count in units of 2^51 and of 1. So the words are added
 * to columns as they are, and what the words of H and L themselves make in a column (`excess`) is subtracted once. None
 * of this depends on the direction in which doubles are rounded: the low part takes up what the high part leaves, and may
 * be negative.
 *
 * Bounds. A limb that is multiplied is from 0 to 2^51 - 1; then parts are below 2^51 in size. In `linear` a column has
 * at most 2 * MAX_LIMBS parts of the sum and four of the reduction; in a product of two elements of a ring, 6 * MAX_HALF
 * and `lift`. Both are fewer than 2^11 parts, so a column stays below 2^62 in size, as a number with a sign. */

enum {
    BLOCK = 3,         /* limbs of one operand, and columns of the product beside them, that are held in registers */
    TILE = BLOCK,      /* columns of a table that are summed at once */
    MAX_LIMBS = 339,
    MAX_HALF = 87,
};

#define LIMB_BITS 51
#define LIMB_MASK ((1ULL << LIMB_BITS) - 1)

static const double HIGH = 0x1.8p103, HIGH_AND_LOW = 0x1.8p103 + 0x1.8p52, UNIT = 0x1p52;
static const uint64_t HIGH_WORD = 0x4668000000000000, LOW_WORD = 0x4338000000000000, UNIT_WORD = 0x4330000000000000;

INLINE V low_bits(V a) { return both(a, all(LIMB_MASK)); }

/* A limb as a double, which it fits into. */
INLINE D double_of(V limb) { return less(as_doubles(either(limb, all(UNIT_WORD))), all_doubles(UNIT)); }

INLINE void to_doubles(D *out, const V *limbs, size_t n) {
    for (size_t k = 0; k < n; k++) out[k] = double_of(limbs[k]);
}

/* Adds the two parts of a product to two columns, each with the word of its constant. */
INLINE void add_parts(V *low, V *high, D a, D b) {
    const D high_part = fused(a, b, all_doubles(HIGH));
    const D low_part = fused(a, b, less(all_doubles(HIGH_AND_LOW), high_part));
    *low = add(*low, as_words(low_part));
    *high = add(*high, as_words(high_part));
}

/* The same without the words of the constants. */
INLINE void add_exact_parts(V *low, V *high, D a, D b) {
    *low = sub(*low, all(LOW_WORD));
    *high = sub(*high, all(HIGH_WORD));
    add_parts(low, high, a, b);
}

/* The words of constants that so many low and high parts bring. */
INLINE V excess(size_t lows, size_t highs) { return all(lows * LOW_WORD + highs * HIGH_WORD); }

/* The low LIMB_BITS bits of a word times a limb. */
INLINE V low_product(V word, uint64_t limb) {
    const V middle = add(times_32(word, all(limb >> 32)), times_32(high_half(word), all(limb)));
    return low_bits(add(times_32(word, all(limb)), to_high_half(middle)));
}

/* ---- Rows of bytes and limbs ---------------------------------------------------------------------------------- */

/* The first `limbs` limbs of up to LANES rows; a limb is somewhere in the eight bytes in which it begins. */
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

/* The low `bytes` bytes of up to LANES numbers whose limbs are below 2^51, eight bytes at once: they are in two limbs or
 * three. */
static void store_rows(uint8_t *rows, size_t live, size_t bytes, const V *x) {
    for (size_t lane = 0; lane < live; lane++) {
        const uint64_t *limb = (const uint64_t *)x + lane;
        size_t shift = 0;
        for (size_t offset = 0; offset < bytes; offset += 8) {
            uint64_t word = limb[0] >> shift | limb[LANES] << (LIMB_BITS - shift);
            if (shift > 2 * LIMB_BITS - 64) word |= limb[2 * LANES] << (2 * LIMB_BITS - shift);
            set_word_at(rows + lane * bytes, bytes, offset, word);
            shift += 64 - LIMB_BITS;
            limb += shift < LIMB_BITS ? LANES : 2 * LANES;
            shift -= shift < LIMB_BITS ? 0 : LIMB_BITS;
        }
    }
}

/* ---- Products in lazy columns ---------------------------------------------------------------------------------- */

/* columns[0 .. n + BLOCK) += a[0 .. BLOCK) * b[0 .. n); `w` holds the columns that products still reach, column c in
 * w[c mod BLOCK]. The lowest leaves once its last part is added, and the next takes its register. */
INLINE void sweep_on(V w[BLOCK], V *columns, const D a[BLOCK], const D *b, const double *shared, size_t n) {
    DO_NOT_UNROLL for (size_t j = 0; j < n; j += BLOCK) {
        UNROLL for (int u = 0; u < BLOCK; u++) {
            const D by = shared ? all_doubles(shared[j + u]) : b[j + u];
            V lowest = w[u];
            w[u] = columns[j + u + BLOCK];
            add_parts(&lowest, &w[(u + 1) % BLOCK], a[0], by);
            columns[j + u] = lowest;
            UNROLL for (int k = 1; k < BLOCK; k++)
                add_parts(&w[(u + k) % BLOCK], &w[(u + k + 1) % BLOCK], a[k], by);
        }
    }
    UNROLL for (int k = 0; k < BLOCK; k++) columns[n + k] = w[k];
}

NOINLINE void sweep(V *columns, const D *a, const D *b, size_t n) {
    V w[BLOCK];
    D a_[BLOCK];
    UNROLL for (int k = 0; k < BLOCK; k++) w[k] = columns[k];
    UNROLL for (int k = 0; k < BLOCK; k++) a_[k] = a[k];
    sweep_on(w, columns, a_, b, NULL, n);
}

/* Subtracts from 2n columns, or from zeros, what the words of the constants make in them with n * n products, times
 * `halves` / 2. */
INLINE void subtract_excess(V *columns, int there, size_t n, uint64_t halves) {
    const uint64_t low = halves * (LOW_WORD >> 1), high = halves * (HIGH_WORD >> 1);
    V own = all(low);
    for (size_t c = 0; c < n; c++, own = add(own, all(low + high))) columns[c] = sub(there ? columns[c] : zero(), own);
    own = all((n - 1) * low + n * high);
    for (size_t c = n; c < 2 * n; c++, own = sub(own, all(low + high)))
        columns[c] = sub(there ? columns[c] : zero(), own);
}

INLINE void add_product(V *columns, const D *a, const D *b, size_t n) {
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK) sweep(columns + t, a + t, b, n);
}

/* columns[0 .. 2n) = a * b. */
INLINE void set_to_product(V *columns, const V *a, const V *b, size_t n) {
    D a_[MAX_HALF], b_[MAX_HALF];
    to_doubles(a_, a, n);
    to_doubles(b_, b, n);
    subtract_excess(columns, 0, n, 2);
    add_product(columns, a_, b_, n);
}

/* first[0 .. 2n) = a[0 .. n) * b[0 .. n), second[0 .. 2n) = a[0 .. n) * b[n .. 2n) + a[n .. 2n) * b[0 .. n), both without
 * what the reduction will bring. */
INLINE void set_to_products(V *first, V *second, const V *a, const V *b, size_t n) {
    D a_[2 * MAX_HALF], b_[2 * MAX_HALF];
    to_doubles(a_, a, 2 * n);
    to_doubles(b_, b, 2 * n);
    subtract_excess(first, 0, n, 2 + 2);
    subtract_excess(second, 0, n, 4 + 2);
    add_product(first, a_, b_, n);
    add_product(second, a_, b_ + n, n);
    add_product(second, a_ + n, b_, n);
}

/* The same as `set_to_products` of x and a number whose first digit is 1 and whose second is y[0 .. n). */
INLINE void set_to_sum(V *first, V *second, const V *x, const V *y, size_t n) {
    D x_[MAX_HALF], y_[MAX_HALF];
    to_doubles(x_, x, n);
    to_doubles(y_, y, n);
    subtract_excess(first, 0, n, 2);
    subtract_excess(second, 0, n, 2 + 2);
    for (size_t k = 0; k < n; k++) {
        first[k] = add(first[k], x[k]);
        second[k] = add(second[k], x[n + k]);
    }
    add_product(second, x_, y_, n);
}

/* columns[0 .. 2n) += a * a. Products of two different limbs come twice: the columns hold half of the sum before the
 * squares of single limbs are added. */
INLINE void double_and_add_square(V *columns, const D *a, size_t n) {
    for (size_t t = 0; t < n; t += BLOCK) {
        for (size_t i = 0; i < BLOCK; i++)
            for (size_t j = i + 1; j < BLOCK; j++)
                add_parts(columns + 2 * t + i + j, columns + 2 * t + i + j + 1, a[t + i], a[t + j]);
        if (t + BLOCK < n) sweep(columns + 2 * t + BLOCK, a + t, a + t + BLOCK, n - BLOCK - t);
    }
    for (size_t k = 0; k < n; k++) {
        V low = add(columns[2 * k], columns[2 * k]), high = add(columns[2 * k + 1], columns[2 * k + 1]);
        add_parts(&low, &high, a[k], a[k]);
        columns[2 * k] = low;
        columns[2 * k + 1] = high;
    }
}

/* The same as `set_to_products` of a and a. */
INLINE void set_to_squares(V *first, V *second, const V *a, size_t n) {
    D a_[2 * MAX_HALF];
    to_doubles(a_, a, 2 * n);
    subtract_excess(first, 0, n, (2 + 2) / 2);
    subtract_excess(second, 0, n, (4 + 2) / 2);
    double_and_add_square(first, a_, n);
    add_product(second, a_, a_ + n, n);
    for (size_t k = 0; k < 2 * n; k++) second[k] = add(second[k], second[k]);
}

/* The digits that make a block of columns vanish: what these hold, times the inverse, modulo 2^(51 BLOCK). All digits of a
 * block at once, as one after another they would wait for each other. The columns miss what the constants of the products
 * with these digits will make in them. */
INLINE void digits_of_block(V digits[BLOCK], D as_numbers[BLOCK], const V w[BLOCK], const D inverse[BLOCK]) {
    V sums[BLOCK + 1], over = zero();
    UNROLL for (int k = 0; k < BLOCK; k++) {
        const V t = add(add(w[k], excess(k + 1, k)), over);
        as_numbers[k] = double_of(low_bits(t));
        over = high_bits(t);
    }
    UNROLL for (int k = 0; k <= BLOCK; k++) sums[k] = sub(zero(), excess(k + 1, k));
    UNROLL for (int i = 0; i < BLOCK; i++)
        UNROLL for (int k = 0; k < BLOCK - i; k++) add_parts(&sums[i + k], &sums[i + k + 1], as_numbers[i], inverse[k]);
    over = zero();
    UNROLL for (int k = 0; k < BLOCK; k++) {
        const V t = add(sums[k], over);
        digits[k] = low_bits(t);
        as_numbers[k] = double_of(digits[k]);
        over = high_bits(t);
    }
}

/* A modulus in the form in which digits are multiplied by it. */
struct shared_modulus {
    double limbs[MAX_HALF];
    D inverse[BLOCK];
};

INLINE void share_modulus(struct shared_modulus *shared, const uint64_t *modulus, const uint64_t *inverse, size_t n) {
    for (size_t k = 0; k < n; k++) shared->limbs[k] = (double)(int64_t)modulus[k];
    for (size_t k = 0; k < BLOCK; k++) shared->inverse[k] = double_of(all(inverse[k]));
}

/* Makes a block of columns vanish by a multiple of the modulus, in n + BLOCK columns; gives what the block carries. */
INLINE V reduce_block(V *columns, V *digits, V over, const struct shared_modulus *shared, size_t n) {
    V w[BLOCK];
    D m[BLOCK];
    columns[0] = add(columns[0], over);
    UNROLL for (int k = 0; k < BLOCK; k++) w[k] = columns[k];
    digits_of_block(digits, m, w, shared->inverse);
    sweep_on(w, columns, m, NULL, shared->limbs, n);
    over = high_bits(columns[0]);
    UNROLL for (int k = 1; k < BLOCK; k++) over = high_bits(add(columns[k], over));
    return over;
}

/* Montgomery's reduction: adds the multiple `digits` of the modulus that makes columns[0 .. n) vanish; what remains, the
 * sum divided by 2^(51 n), is in columns[n .. 2n), lazily. */
NOINLINE void reduce(V *columns, V *digits, const uint64_t *modulus, const uint64_t *inverse, size_t n) {
    struct shared_modulus shared;
    V over = zero();
    share_modulus(&shared, modulus, inverse, n);
    subtract_excess(columns, 1, n, 2);
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK)
        over = reduce_block(columns + t, digits + t, over, &shared, n);
    columns[n] = add(columns[n], over);
}

/* Both reductions of `set_to_products`: the digits of the first are subtracted from the second, with `lift`. A block of
 * one in turn with a block of the other, as each has to wait for its digits. */
NOINLINE void reduce_both(V *first, V *second, const struct ring *ring) {
    struct shared_modulus shared;
    V over = zero(), second_over = zero();
    const size_t n = ring->half;
    share_modulus(&shared, ring->prime, ring->inverse, n);
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += BLOCK) {
        V digits[BLOCK], forgotten[BLOCK];
        over = reduce_block(first + t, digits, over, &shared, n);
        UNROLL for (int k = 0; k < BLOCK; k++)
            second[t + k] = add(second[t + k], sub(all(ring->lift[t + k]), digits[k]));
        second_over = reduce_block(second + t, forgotten, second_over, &shared, n);
    }
    first[n] = add(first[n], over);
    second[n] = add(second[n], second_over);
}

/* The sum of limbs of x times rows of a table of doubles, and of `plus`: columns[0 .. n + 2). A tile of columns stays in
 * registers while all limbs of x go by; the high parts of its last column are those of the next tile's first. */
INLINE void add_table(V *columns, const V *x, size_t limbs, const uint64_t *table, const uint64_t *plus, size_t n) {
    const double *entries = (const double *)table;
    D x_[MAX_LIMBS];
    V over = zero();
    to_doubles(x_, x, limbs);
    DO_NOT_UNROLL for (size_t t = 0; t < n; t += TILE, entries += TILE * limbs) {
        V w[TILE + 1];
        UNROLL for (int k = 0; k < TILE; k++) w[k] = sub(all(plus[t + k]), excess(limbs, k ? limbs : 0));
        w[0] = add(w[0], over);
        w[TILE] = sub(zero(), excess(0, limbs));
        DO_NOT_UNROLL for (size_t i = 0; i < limbs; i++) {
            const D a = x_[i];
            UNROLL for (int k = 0; k < TILE; k++) add_parts(&w[k], &w[k + 1], a, all_doubles(entries[TILE * i + k]));
        }
        UNROLL for (int k = 0; k < TILE; k++) columns[t + k] = w[k];
        over = w[TILE];
    }
    columns[n] = over;
    columns[n + 1] = zero();
}

/* Two steps of Montgomery's reduction of n + 2 columns and a pass of carries: out = columns / 2^102 modulo the modulus. */
INLINE void fold(V *out, const V *columns, V digits[2], const uint64_t *modulus, uint64_t inverse, size_t n) {
    V t = columns[0], next = columns[1], after = columns[2];
    digits[0] = low_product(t, inverse);
    const D m0 = double_of(digits[0]);
    add_exact_parts(&t, &next, m0, double_of(all(modulus[0])));
    next = add(next, high_bits(t));
    add_exact_parts(&next, &after, m0, double_of(all(modulus[1])));
    digits[1] = low_product(next, inverse);
    const D m1 = double_of(digits[1]);
    add_exact_parts(&next, &after, m1, double_of(all(modulus[0])));
    V over = high_bits(next);
    for (size_t k = 2; k < n + 2; k++) {
        t = add(after, over);
        after = k < n + 1 ? columns[k + 1] : zero();
        if (k < n) add_exact_parts(&t, &after, m0, double_of(all(modulus[k])));
        if (k < n + 1) add_exact_parts(&t, &after, m1, double_of(all(modulus[k - 1])));
        out[k - 2] = low_bits(t);
        over = high_bits(t);
    }
}
