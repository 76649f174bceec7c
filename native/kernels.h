/* What an instruction set offers: the kernels behind `xtrace_core.arithmetic.compiled`.
 *
 * Numbers come and go as rows of little-endian bytes, one number a row. Inside, a number is a sequence of limbs of
 * `limb_bits` bits, least significant first, each in a 64-bit word, so that sums of products need no carry for a while.
 * Several rows are worked on at once, one in each lane of a vector ("a group"); groups are independent of each other,
 * and a group that is not full works on zeros in the empty lanes.
 *
 * Everything that depends only on a modulus or a key is prepared in Python (`compiled.py`) and handed in as arrays of
 * limbs. Kernels take no memory from the heap, keep nothing between calls, and read and write nothing that depends on
 * the contents of those arrays: the sizes, which `module.c` checks, decide alone what is touched. The one exception is
 * an indexed table of powers (`struct powers`). tests/unit/arithmetic/test_constant_time.py checks this under valgrind.
 */
#ifndef XTRACE_KERNELS_H
#define XTRACE_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 20")
#define DO_NOT_UNROLL _Pragma("GCC unroll 1") /* an unrolled outer loop overflows the instruction cache */

enum {
    WINDOW_BITS = 4, /* of an exponent whose powers are all read, and all but one masked away */
    WINDOW_SIZE = 1 << WINDOW_BITS,
    INVERSE_LIMBS = 3, /* of the inverse of a prime */
    INDEXED_BITS = 8, /* of an exponent that says where an entry is */
    CHUNK_DIGITS = 40, /* digits to base 3 that are worked on as one 64-bit word */
    MAX_CHUNKS = 128,  /* of a vector in base 3, and 64-bit words of a row that holds one */
    MAX_CODE_BYTES = 1 << 20, /* of a vector in codes of 4 bits */
    MAX_CODE_QUERY = 63,      /* the largest coordinate of a query that codes are compared with */
};

/* row -> sum over its limbs of limb * table[limb] + plus, modulo an odd modulus.
 *
 * Multiplication by a fixed factor is such a map (table[i] = factor * 2^(bits * i)), so is reduction, and so is the
 * Chinese remainder theorem. The table and `plus` hold, reduced by the modulus, 2^(2 bits) times what they stand for. So
 * the sum is below in_limbs * 2^bits * modulus, and two steps of Montgomery's reduction, which take the factor
 * 2^(2 bits) away, leave less than twice the modulus. That must fit: the modulus has 8 bits less than the limbs hold.
 */
struct linear_map {
    size_t in_bytes, out_bytes;
    size_t in_limbs, out_limbs;
    uint64_t inverse;        /* -1 / modulus mod 2^bits */
    const uint64_t *modulus; /* out_limbs */
    const uint64_t *plus;    /* out_limbs */
    const uint64_t *table;   /* [out_limbs / tile][in_limbs][tile] */
};

/* Integers modulo p^2 for an odd p, as x0 + x1 p with two digits x0, x1 of `half` limbs each.
 *
 * R is 2^(bits * half), and at least 2^8 times p: digits below 1.1 p stay below 1.1 p in every product, so nothing is
 * subtracted between two products.
 */
struct ring {
    size_t half;
    size_t prime_bytes, square_bytes;
    const uint64_t *inverse;  /* INVERSE_LIMBS: -1 / p mod 2^(INVERSE_LIMBS bits) */
    const uint64_t *prime;    /* half limbs */
    const uint64_t *lift;     /* half limbs, each at least 2^bits - 1, together a multiple of p below 2 R */
    const uint64_t *message;  /* half limbs: what a message is multiplied by, times R modulo p */
    const uint64_t *one;      /* 2 half: the number 1 times R modulo p^2, as two digits */
};

/* How a row of bytes becomes two digits: a linear map to both, reduced by two limbs. */
struct reduction {
    size_t in_bytes, in_limbs;
    const uint64_t *plus;  /* 2 half */
    const uint64_t *table; /* [2 half / tile][in_limbs][tile] */
};

/* base^(j * 2^(window_bits i)) * R for every window i of an exponent and its value j, as pairs of digits;
 * [i][j][entry_limbs].
 *
 * Windows of INDEXED_BITS are the addresses of their entries: fast, but a processor's caches show them to other programs.
 * Of windows of WINDOW_BITS every entry is read. */
struct powers {
    size_t exponent_bytes;
    unsigned window_bits;
    const uint64_t *entries;
};

/* Where the messages of an encryption are: none (NULL) or a row for each result. */
struct messages {
    size_t bytes; /* at most prime_bytes of limbs: below R */
    const uint8_t *rows;
};

/* What reading gives: m modulo p in out, and whether the row was 1 + m' p at all. */
struct reading {
    const uint64_t *factor; /* half limbs: times R modulo p */
    uint8_t *out;           /* prime_bytes a row */
    uint8_t *valid;         /* one byte a row */
};

/* An exponent that all rows share, in windows of WINDOW_BITS, most significant first. Secret. */
struct exponent {
    size_t windows;
    const uint8_t *digits;
};

struct kernels {
    const char *name;
    size_t lanes;             /* rows in a group */
    size_t tile;              /* columns of a table that stand together; limbs of results come in multiples of it */
    unsigned limb_bits;
    size_t max_limbs;         /* of a row that goes into a linear map or comes out of it */
    size_t max_half;          /* limbs of a prime */
    int tables_of_doubles;    /* whether limbs in tables of linear maps are doubles, not integers */

    void (*linear)(const struct linear_map *map, uint8_t *out, const uint8_t *in, size_t rows);

    /* entries[i][j] for the rows `bases` (which hold base^(2^(window_bits i))); one row a window. */
    void (*table)(const struct ring *ring, const struct reduction *in, unsigned window_bits, uint64_t *entries,
                  const uint8_t *bases, size_t windows);

    /* (1 + message) * base^exponent: the exponents are rows of their own. */
    void (*fixed_encrypt)(const struct ring *ring, const struct powers *powers, const struct messages *messages,
                          uint8_t *out, const uint8_t *exponents, size_t rows);

    /* row * base^exponent, read. */
    void (*fixed_read)(const struct ring *ring, const struct powers *powers, const struct reduction *in,
                       const struct reading *reading, const uint8_t *in_rows, const uint8_t *exponents, size_t rows);

    /* (1 + message) * row^exponent. */
    void (*power_encrypt)(const struct ring *ring, const struct exponent *exponent, const struct reduction *in,
                          const struct messages *messages, uint8_t *out, const uint8_t *in_rows, size_t rows);

    /* row^exponent, read. */
    void (*power_read)(const struct ring *ring, const struct exponent *exponent, const struct reduction *in,
                       const struct reading *reading, const uint8_t *in_rows, size_t rows);
};

/* The limbs of an entry of a table of powers: two digits, and padding up to whole vectors of eight words. */
static inline size_t entry_limbs(size_t half) { return (2 * half + 7) / 8 * 8; }

/* The limbs of all entries of a window. */
static inline size_t window_limbs(size_t half, unsigned window_bits) { return entry_limbs(half) << window_bits; }

/* The eight bytes of a row from `offset` on as a little-endian word, zero beyond the row's end. */
static inline uint64_t word_at(const uint8_t *row, size_t bytes, size_t offset) {
    uint64_t word = 0;
    if (offset + 8 <= bytes) memcpy(&word, row + offset, 8);
    else if (offset < bytes) memcpy(&word, row + offset, bytes - offset);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Sets the eight bytes of a row from `offset` on, as far as the row goes. */
static inline void set_word_at(uint8_t *row, size_t bytes, size_t offset, uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    if (offset + 8 <= bytes) memcpy(row + offset, &word, 8);
    else memcpy(row + offset, &word, bytes - offset);
}

#ifdef XTRACE_HAVE_IFMA
extern const struct kernels xtrace_ifma;
#endif
#ifdef XTRACE_HAVE_AVX2
extern const struct kernels xtrace_avx2;
#endif
#ifdef XTRACE_HAVE_NEON
extern const struct kernels xtrace_neon;
#endif

/* dispatch.c: the kernels that this processor can run, fastest first, ended by NULL. */
const struct kernels *const *xtrace_supported_kernels(void);

/* slots.c: plain C, the same on every processor. */
void xtrace_below(uint8_t *below, const uint8_t *rows, size_t count, size_t bytes, const uint8_t *bound);
int xtrace_encode_slots(uint8_t *out, const uint8_t *bits, size_t count, size_t positions);
void xtrace_count_slots(int64_t *counts, uint8_t *valid, const uint8_t *rows, size_t count, size_t bytes,
                        size_t positions);

/* digits.c: likewise; up to MAX_CHUNKS chunks of positions, and rows of as many words. */
size_t xtrace_digits_bytes(size_t positions);
void xtrace_encode_digits(uint8_t *out, const uint8_t *bits, size_t count, size_t positions);
void xtrace_count_digits(int64_t *counts, uint8_t *valid, const uint8_t *rows, size_t count, size_t bytes,
                         size_t positions);
void xtrace_decode_digits(uint8_t *bits, uint8_t *valid, const uint8_t *rows, size_t count, size_t bytes,
                          size_t positions);

/* codes.c, vnni.c: the dot product of each row of codes, of up to MAX_CODE_BYTES, with a query: twice as many numbers of up to
 * MAX_CODE_QUERY in size, first those for the low halves of the bytes, then those for the high halves. */
struct code_kernel {
    const char *name;
    void (*dots)(int32_t *dots, const uint8_t *codes, const int8_t *query, size_t rows, size_t bytes);
};

extern const struct code_kernel xtrace_plain_codes;
#ifdef XTRACE_HAVE_VNNI
extern const struct code_kernel xtrace_vnni_codes;
#endif
#ifdef XTRACE_HAVE_AVX2
extern const struct code_kernel xtrace_avx2_codes;
#endif

/* dispatch.c: those that this processor can run, fastest first, ended by NULL. */
const struct code_kernel *const *xtrace_supported_code_kernels(void);

/* lattice.h: the ring of encrypted blocks (xtrace_core/lattice/). Everything about a prime q is prepared in Python. */
enum {
    LATTICE_DEGREE = 1024,
    LATTICE_RANK = 3,
    LATTICE_TILE = 16,      /* coefficients of all elements of a slab that are stored together */
    LATTICE_LAZY = 16,      /* products that a sum takes before it is folded */
    LATTICE_VALUE_BITS = 12,
    LATTICE_HINT_BITS = 20,
    LATTICE_FOLD = 4, /* positions of a vector in a code */
    LATTICE_BASE = 513, /* of the digits whose sums values are */
    LATTICE_BODIES = 2,
};

struct lattice_prime {
    uint64_t q;
    uint64_t fold;       /* 2^32 mod q */
    uint64_t reciprocal; /* 2^60 / q */
    uint64_t scale;      /* 2^64 / q */
    uint64_t degree_inverse, degree_quotient;     /* of 1 / 1024; quotients are the number times 2^32, divided by q */
    uint64_t cofactor_inverse, cofactor_quotient; /* of 1 / the other prime */
    uint32_t powers[LATTICE_DEGREE], quotients[LATTICE_DEGREE]; /* of the root, with the bits of exponents reversed */
    uint32_t inverse_powers[LATTICE_DEGREE], inverse_quotients[LATTICE_DEGREE];
};

/* The weights of a code's bits, modulo a prime q: the sum of all of them taken away, and what each bit adds to it, twice
 * its weight, so that the sum of both is below 4q. Modulo 2^32. */
struct lattice_weights {
    uint32_t least, difference[LATTICE_FOLD];
};

/* One slab of a block or a query: rows are the matrix times the secret, plus the noisy elements; sums are those of the
 * rows of the other matrix times the rows, or times the noisy elements. */
struct lattice_masking {
    const struct lattice_prime *primes; /* both */
    size_t words;                       /* rows */
    const uint32_t *matrix, *other;     /* values: [words][LATTICE_RANK][2][LATTICE_DEGREE] */
    const uint32_t *secret;             /* values: [LATTICE_RANK][2][LATTICE_DEGREE] */
    const uint32_t *noise;              /* words whose ones are counted: [words][LATTICE_DEGREE] */
    size_t rows;                        /* coefficients with a message */
    const uint8_t *codes;               /* [words][rows] */
    const struct lattice_weights *weights; /* for both primes */
    int sums_of_noisy;
    uint8_t *tiles; /* the rows, as they are stored */
    uint32_t *sums; /* values: [LATTICE_RANK][2][LATTICE_DEGREE] */
};

/* What the client keeps of the queries of a search, and where the distances go. Values modulo the first prime. */
struct lattice_reading {
    const struct lattice_prime *prime;
    size_t queries, slabs, total; /* the last: distances of a query */
    uint64_t max_noise;           /* how far a reading may be from an integer, in units of 2^-34 */
    const uint64_t *slab;         /* positions, and those in use: [slabs][2] */
    const uint32_t *asked;        /* the queries' secrets: [queries][LATTICE_RANK][LATTICE_DEGREE] */
    const uint32_t *kept;         /* [queries][slabs][LATTICE_RANK][LATTICE_DEGREE] */
    uint16_t *distances;          /* [queries][total] */
};

/* What is read of one block. */
struct lattice_block {
    const uint8_t *secret; /* coefficients plus 1: [LATTICE_RANK][LATTICE_DEGREE] */
    const uint8_t *hints;  /* as they are stored */
    const uint8_t *values; /* of each query and slab, as they were sent */
    const int64_t *slots;  /* ascending; public */
    size_t count, first;   /* of the slots, and where their distances begin */
    uint8_t *valid;
};

struct lattice_kernels {
    const char *name;
    size_t bodies; /* that are evaluated at once, at most LATTICE_BODIES */
    void (*transform)(const struct lattice_prime *prime, int inverse, uint32_t *out, const uint32_t *in, size_t rows);
    void (*evaluate)(const struct lattice_prime primes[2], uint16_t *const *values, const uint8_t *const *bodies,
                     size_t count, const uint8_t *query, size_t words);
    void (*mask)(const struct lattice_masking *masking);
    void (*read)(const struct lattice_reading *reading, const struct lattice_block *blocks, size_t count);
};

extern const struct lattice_kernels xtrace_plain_lattice;
#ifdef XTRACE_HAVE_IFMA
extern const struct lattice_kernels xtrace_ifma_lattice;
#endif
#ifdef XTRACE_HAVE_AVX2
extern const struct lattice_kernels xtrace_avx2_lattice;
#endif
#ifdef XTRACE_HAVE_NEON
extern const struct lattice_kernels xtrace_neon_lattice;
#endif

/* dispatch.c: those that this processor can run, fastest first, ended by NULL. */
const struct lattice_kernels *const *xtrace_supported_lattice_kernels(void);

/* threads.c: calls work(arguments, first, count) until every row was in one call; returns when all have returned. */
typedef void (*xtrace_work)(const void *arguments, size_t first, size_t count);
void xtrace_in_threads(xtrace_work work, const void *arguments, size_t rows, size_t block, size_t threads);

#endif
