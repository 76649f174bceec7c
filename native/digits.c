/* Binary vectors in base 3, in plain C: position i of w is the digit of 3^(w - 1 - i).
 *
 * Forty digits are a "chunk", a number below 3^40, which is a little less than 2^64. A vector is the sum of its chunks
 * times powers of 3^40; its digits come back by dividing by 3^40, each remainder being a chunk. A sum of two vectors has
 * a 1 where they differ. The numbers are secret: sizes alone decide which steps are taken and what is read, quotients
 * come from products with reciprocals (a division takes longer for some values), and corrections are masked.
 */
#include "kernels.h"

#include <string.h>

typedef unsigned __int128 uint128_t;

enum {
    CHUNK = CHUNK_DIGITS,
    ROWS = 4, /* divided at once: a division waits for the one before it, those of other rows do not */
    MAX_DIGITS = CHUNK * MAX_CHUNKS,
};

static const uint64_t CHUNK_POWER = 0xa8b8b452291fe821;      /* 3^40 */
static const uint64_t CHUNK_RECIPROCAL = 0x846d550e37b5063d; /* (2^128 - 1) / 3^40 - 2^64 */
static const uint64_t HALF_POWER = 3486784401;               /* 3^20 */
static const uint64_t HALF_RECIPROCAL = 0x4ed58f091e2dcbb9;  /* 2^94 / 3^20, rounded up */
static const uint64_t HALF_FRACTION = 1322618633;            /* 2^62 / 3^20, rounded down */

/* Of a row: what 3^positions takes. 50508 / 31867 is as close to log2(3) as all lengths there are demand. */
size_t xtrace_digits_bytes(size_t positions) { return (positions * 50508 / 31867 + 8) / 8; }

static size_t chunks_of(size_t positions) { return (positions + CHUNK - 1) / CHUNK; }

/* ---- From bits to rows --------------------------------------------------------------------------------------------- */

/* The number with these digits, each 0 or 1. Four bytes at once: the product's highest byte is 27 a + 9 b + 3 c + d. */
static uint64_t chunk_of(const uint8_t digits[CHUNK]) {
    uint64_t chunk = 0;
    for (size_t i = 0; i < CHUNK; i += 4) {
        const uint32_t four = (uint32_t)word_at(digits + i, 4, 0) & 0x01010101;
        chunk = 81 * chunk + (four * 0x1b090301u >> 24);
    }
    return chunk;
}

/* Bits, one a byte, to rows of xtrace_digits_bytes(positions); of each byte the lowest bit counts. */
void xtrace_encode_digits(uint8_t *out, const uint8_t *bits, size_t count, size_t positions) {
    const size_t chunks = chunks_of(positions), bytes = xtrace_digits_bytes(positions);
    const size_t spare = CHUNK * chunks - positions;
    for (size_t row = 0; row < count; row++) {
        uint8_t digits[MAX_DIGITS];
        uint64_t words[MAX_CHUNKS];
        memset(digits, 0, spare); /* zeros in front make the first chunk whole */
        memcpy(digits + spare, bits + row * positions, positions);
        memset(words, 0, sizeof words);
        for (size_t chunk = 0; chunk < chunks; chunk++) { /* words = words 3^40 + chunk, a word longer each time */
            uint64_t carry = chunk_of(digits + CHUNK * chunk);
            for (size_t k = 0; k <= chunk; k++) {
                const uint128_t t = (uint128_t)words[k] * CHUNK_POWER + carry;
                words[k] = (uint64_t)t;
                carry = (uint64_t)(t >> 64);
            }
        }
        for (size_t i = 0; i < bytes; i++) out[row * bytes + i] = (uint8_t)(words[i / 8] >> i % 8 * 8);
    }
}

/* ---- From rows to digits ------------------------------------------------------------------------------------------- */

/* All ones if so, else zero. */
static uint64_t mask_if(int so) { return 0 - (uint64_t)so; }

/* The quotient of (remainder, word) by 3^40; `remainder`, below 3^40, becomes the new one. Möller and Granlund, Improved
 * division by invariant integers, algorithm 4: the quotient estimated from the reciprocal is at most one off. */
static inline uint64_t divide_word(uint64_t *remainder, uint64_t word) {
    const uint128_t estimate = (uint128_t)CHUNK_RECIPROCAL * *remainder + ((uint128_t)*remainder << 64 | word);
    uint64_t quotient = (uint64_t)(estimate >> 64) + 1;
    uint64_t left = word - quotient * CHUNK_POWER;
    const uint64_t over = mask_if(left > (uint64_t)estimate);
    quotient += over;
    left += over & CHUNK_POWER;
    const uint64_t reached = mask_if(left >= CHUNK_POWER);
    *remainder = left - (reached & CHUNK_POWER);
    return quotient - reached;
}

/* The chunks of the numbers in `words`, least significant first; what is left of the numbers stays in `words`. A number
 * loses more than 63 bits with each chunk. */
static void divide_rows(uint64_t (*chunks)[ROWS], size_t count, uint64_t (*words)[ROWS], size_t length) {
    for (size_t c = 0; c < count; c++) {
        const size_t used = 64 * length > 63 * c ? (64 * length - 63 * c + 63) / 64 : 0;
        memset(chunks[c], 0, sizeof chunks[c]);
        for (size_t k = used; k-- > 0;)
            for (size_t i = 0; i < ROWS; i++) words[k][i] = divide_word(&chunks[c][i], words[k][i]);
    }
}

/* The forty digits of a chunk, most significant first. A number v below 3^20 is written as a fraction of 3^20, of 62
 * bits: (v + 1) HALF_FRACTION lies between v and v + 1 times 2^62 / 3^20. Three times the fraction has the next digit
 * above its 62 bits. */
static void digits_of(uint8_t digits[CHUNK], uint64_t chunk) {
    const uint64_t mask = ((uint64_t)1 << 62) - 1;
    const uint64_t high = (uint64_t)((uint128_t)chunk * HALF_RECIPROCAL >> 94), low = chunk - high * HALF_POWER;
    uint64_t first = (high + 1) * HALF_FRACTION, second = (low + 1) * HALF_FRACTION;
    for (size_t i = 0; i < CHUNK / 2; i++) {
        first *= 3;
        second *= 3;
        digits[i] = (uint8_t)(first >> 62);
        digits[CHUNK / 2 + i] = (uint8_t)(second >> 62);
        first &= mask;
        second &= mask;
    }
}

/* The digits of up to ROWS rows, with zeros in front up to whole chunks, and what is not zero only where a number is
 * 3^positions or more. */
static void read_digits(uint8_t digits[ROWS][MAX_DIGITS], uint64_t beyond[ROWS], const uint8_t *rows, size_t live,
                        size_t bytes, size_t positions) {
    uint64_t words[MAX_CHUNKS][ROWS], parts[MAX_CHUNKS][ROWS];
    const size_t length = (bytes + 7) / 8, chunks = chunks_of(positions);
    for (size_t k = 0; k < length; k++)
        for (size_t i = 0; i < ROWS; i++) words[k][i] = i < live ? word_at(rows + i * bytes, bytes, 8 * k) : 0;
    divide_rows(parts, chunks, words, length);
    for (size_t i = 0; i < live; i++) {
        for (size_t c = 0; c < chunks; c++) digits_of(digits[i] + CHUNK * (chunks - 1 - c), parts[c][i]);
        beyond[i] = 0;
        for (size_t k = 0; k < length; k++) beyond[i] |= words[k][i];
        for (size_t k = 0; k < CHUNK * chunks - positions; k++) beyond[i] |= digits[i][k];
    }
}

/* How many digits of each row are 1; not valid where a row is 3^positions or more. */
void xtrace_count_digits(int64_t *counts, uint8_t *valid, const uint8_t *rows, size_t count, size_t bytes,
                         size_t positions) {
    uint8_t digits[ROWS][MAX_DIGITS];
    uint64_t beyond[ROWS];
    for (size_t row = 0; row < count; row += ROWS) {
        const size_t live = count - row < ROWS ? count - row : ROWS;
        read_digits(digits, beyond, rows + row * bytes, live, bytes, positions);
        for (size_t i = 0; i < live; i++) {
            uint64_t sum = 0; /* eight digits at once: the product's highest byte is the sum of all bytes */
            for (size_t k = 0; k < CHUNK * chunks_of(positions); k += 8)
                sum += (word_at(digits[i] + k, 8, 0) & 0x0101010101010101) * 0x0101010101010101 >> 56;
            counts[row + i] = (int64_t)sum;
            valid[row + i] = beyond[i] == 0;
        }
    }
}

/* The digits of each row as bits, one a byte; not valid where a digit is 2 or a row is 3^positions or more. */
void xtrace_decode_digits(uint8_t *bits, uint8_t *valid, const uint8_t *rows, size_t count, size_t bytes,
                          size_t positions) {
    uint8_t digits[ROWS][MAX_DIGITS];
    uint64_t beyond[ROWS];
    const size_t spare = CHUNK * chunks_of(positions) - positions;
    for (size_t row = 0; row < count; row += ROWS) {
        const size_t live = count - row < ROWS ? count - row : ROWS;
        read_digits(digits, beyond, rows + row * bytes, live, bytes, positions);
        for (size_t i = 0; i < live; i++) {
            uint8_t twos = 0;
            for (size_t k = 0; k < positions; k++) {
                const uint8_t digit = digits[i][spare + k];
                twos |= digit >> 1;
                bits[(row + i) * positions + k] = digit & 1;
            }
            valid[row + i] = (beyond[i] | twos) == 0;
        }
    }
}
