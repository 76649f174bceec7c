/* Small work on rows of bytes, in plain C: comparing with a bound, and the base-4 encoding of binary vectors.
 *
 * The encoding gives position i of w the pair of bits 2 (w - 1 - i), `00` or `01`. The sum of two encoded vectors reads 0,
 * 1 or 2 in each pair; the positions where they differ read 1. None of the loops ends early: how long they take does not
 * depend on the values.
 */
#include "kernels.h"

#include <string.h>

/* Whether each row is above zero and below the bound, an integer of as many bytes. */
void xtrace_below(uint8_t *below, const uint8_t *rows, size_t count, size_t bytes, const uint8_t *bound) {
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = rows + i * bytes;
        uint64_t borrow = 0, any = 0;
        for (size_t offset = 0; offset < bytes; offset += 8) {
            const uint64_t a = word_at(row, bytes, offset), b = word_at(bound, bytes, offset);
            borrow = (a < b) | ((a == b) & borrow);
            any |= a;
        }
        below[i] = (uint8_t)(borrow & (any != 0));
    }
}

static uint32_t little_endian(uint32_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap32(word);
#else
    return word;
#endif
}

/* Bits, one a byte, to rows of 2 * positions bits; zero if an element is neither 0 nor 1. */
int xtrace_encode_slots(uint8_t *out, const uint8_t *bits, size_t count, size_t positions) {
    const size_t bytes = (2 * positions + 7) / 8;
    uint8_t seen = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = bits + i * positions;
        uint8_t *encoded = out + i * bytes;
        const uint8_t *end = row + positions;
        size_t k = 0;
        /* Four positions at once: byte j of the word, from the lowest, goes to bit 30 - 2j of the product's low half. */
        for (; 4 * k + 4 <= positions; k++) {
            uint32_t word;
            memcpy(&word, end - 4 * k - 4, 4);
            word = little_endian(word);
            seen |= (uint8_t)(word | word >> 8 | word >> 16 | word >> 24);
            encoded[k] = (uint8_t)((word & 0x01010101u) * 0x40100401ull >> 24 & 0x55);
        }
        for (; k < bytes; k++) {
            uint8_t byte = 0;
            for (size_t slot = 0; 4 * k + slot < positions; slot++) {
                const uint8_t bit = row[positions - 1 - 4 * k - slot];
                seen |= bit;
                byte |= (uint8_t)((bit & 1) << 2 * slot);
            }
            encoded[k] = byte;
        }
    }
    return seen <= 1;
}

static unsigned ones(uint64_t x) { /* of a word in which every other bit is zero */
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)(x * 0x0101010101010101u >> 56);
}

/* How many of the pairs of each row read 1; not valid where one reads 3 or something is above the top position. */
void xtrace_count_slots(int64_t *counts, uint8_t *valid, const uint8_t *rows, size_t count, size_t bytes,
                        size_t positions) {
    const uint64_t low_bits = 0x5555555555555555u;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = rows + i * bytes;
        uint64_t bad = 0;
        int64_t sum = 0;
        for (size_t offset = 0; offset < bytes; offset += 8) {
            const uint64_t word = word_at(row, bytes, offset);
            const size_t begin = 4 * offset; /* position of the lowest pair, counted from the end */
            const size_t pairs = begin >= positions ? 0 : positions - begin < 32 ? positions - begin : 32;
            const uint64_t used = pairs == 32 ? ~(uint64_t)0 : ((uint64_t)1 << 2 * pairs) - 1;
            bad |= (word & ~used) | (word & word >> 1 & low_bits);
            sum += ones(word & low_bits);
        }
        counts[i] = sum;
        valid[i] = bad == 0;
    }
}
