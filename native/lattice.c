/* The ring of encrypted blocks in plain C, for processors without vectors that lattice.h knows. */
#include "kernels.h"

typedef uint64_t V;

enum { LANES = 1 };

INLINE V zero(void) { return 0; }
INLINE V all(uint64_t word) { return word; }
INLINE V add(V a, V b) { return a + b; }
INLINE V sub(V a, V b) { return a - b; }
INLINE V both(V a, V b) { return a & b; }
INLINE V either(V a, V b) { return a | b; }
INLINE V high_half(V a) { return a >> 32; }
INLINE V to_high_half(V a) { return a << 32; }
INLINE V times_32(V a, V b) { return (a & 0xffffffff) * (b & 0xffffffff); }

INLINE V load_words(const uint64_t *words) {
    V word;
    memcpy(&word, words, sizeof word);
    return word;
}
INLINE void store_words(uint64_t *words, V a) { memcpy(words, &a, sizeof a); }

INLINE V load_half_words(const uint32_t *words) { return words[0]; }
INLINE void store_half_words(uint32_t *words, V a) { words[0] = (uint32_t)a; }
INLINE V left(V a, int bits) { return a << bits; }
INLINE V right(V a, int bits) { return a >> bits; }
INLINE V less_if_reached(V a, V bound) {
    const V rest = a - bound;
    return rest + (bound & (0 - (rest >> 63)));
}

typedef uint32_t W;

enum { WIDE = 1 };

INLINE W wide_all(uint32_t word) { return word; }
INLINE W wide_add(W a, W b) { return a + b; }
INLINE W wide_sub(W a, W b) { return a - b; }
INLINE W wide_both(W a, W b) { return a & b; }
INLINE W wide_right(W a, int bits) { return a >> bits; }
INLINE W wide_least(W a, W b) {
    const W smaller = 0 - (W)(a < b);
    return (a & smaller) | (b & ~smaller);
}
INLINE W wide_low(W a, W b) { return a * b; }
INLINE W wide_high(W a, W b) { return (W)((uint64_t)a * b >> 32); }
INLINE W load_wide(const uint32_t *words) { return words[0]; }
INLINE void store_wide(uint32_t *words, W a) { words[0] = a; }
INLINE void wide_transpose(W r[1]) { (void)r; }

#include "lattice.h"

const struct lattice_kernels xtrace_plain_lattice = LATTICE_KERNELS("plain");
