/* Runs kernels on the jobs of a file and writes what they give: for memcheck, and for the sanitizers.
 *
 * Everything that a job holds but its sizes is secret: memcheck is told that it is undefined, as if it had not been
 * initialized, and reports each branch and each address that depends on it. Every array is an allocation of exactly its
 * size, so that a byte read or written beside it is reported too.
 *
 * A job is a name of 16 bytes, then numbers of 64 bits and arrays (their length in bytes, the bytes) in the order in which
 * its function below takes them. The test writes them, and compares what comes out.
 */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_UNDEFINED(at, length) ((void)(at), (void)(length))
#define VALGRIND_MAKE_MEM_DEFINED(at, length) ((void)(at), (void)(length))
#endif

/* ---- In and out --------------------------------------------------------------------------------------------------- */

static FILE *jobs;

static void fail(const char *what) {
    fprintf(stderr, "harness: %s\n", what);
    exit(2);
}

static void *allocated(size_t length) {
    void *memory = malloc(length ? length : 1);
    if (!memory) fail("no memory");
    return memory; /* to the end: the process is short */
}

static size_t number(void) {
    uint64_t value;
    if (fread(&value, sizeof value, 1, jobs) != 1) fail("the jobs end too early");
    return (size_t)value;
}

static void *secret(size_t expected) {
    const size_t length = number();
    void *bytes = allocated(length);
    if (length != expected) fail("an array is not as long as its job says");
    if (length && fread(bytes, length, 1, jobs) != 1) fail("the jobs end too early");
    VALGRIND_MAKE_MEM_UNDEFINED(bytes, length);
    return bytes;
}

static void result(void *bytes, size_t length) {
    VALGRIND_MAKE_MEM_DEFINED(bytes, length);
    if (length && fwrite(bytes, length, 1, stdout) != 1) fail("cannot write");
}

/* ---- Kernels of an instruction set -------------------------------------------------------------------------------- */

static const struct kernels *kernels;

static size_t limbs_for(size_t bytes) { return (8 * bytes + kernels->limb_bits - 1) / kernels->limb_bits; }

static struct ring take_ring(void) {
    const size_t half = number(), prime_bytes = number(), square_bytes = number();
    const uint64_t *words = secret(8 * (5 * half + INVERSE_LIMBS));
    return (struct ring){half, prime_bytes, square_bytes, words + 5 * half, words, words + half, words + 2 * half,
                         words + 3 * half};
}

static struct reduction take_reduction(const struct ring *ring) {
    const size_t bytes = number(), limbs = limbs_for(bytes);
    const uint64_t *words = secret(8 * 2 * ring->half * (limbs + 1));
    return (struct reduction){bytes, limbs, words, words + 2 * ring->half};
}

/* The bases of the windows become a table. */
static struct powers take_powers(const struct ring *ring) {
    const size_t exponent_bytes = number(), bits = number(), windows = 8 * exponent_bytes / bits;
    const struct reduction in = take_reduction(ring);
    const uint8_t *bases = secret(windows * in.in_bytes);
    uint64_t *entries = allocated(8 * windows * window_limbs(ring->half, (unsigned)bits));
    kernels->table(ring, &in, (unsigned)bits, entries, bases, windows);
    return (struct powers){exponent_bytes, (unsigned)bits, entries};
}

static struct messages take_messages(size_t rows) {
    const size_t bytes = number();
    const uint8_t *messages = secret(bytes * rows);
    return (struct messages){bytes, bytes ? messages : NULL};
}

static struct exponent take_exponent(void) {
    const size_t windows = number();
    return (struct exponent){windows, secret(windows)};
}

static struct reading take_reading(const struct ring *ring, size_t rows) {
    return (struct reading){secret(8 * ring->half), allocated(rows * ring->prime_bytes), allocated(rows)};
}

static void results_of(const struct reading *reading, const struct ring *ring, size_t rows) {
    result(reading->out, rows * ring->prime_bytes);
    result(reading->valid, rows);
}

static void shape(void) {
    uint64_t sizes[] = {kernels->limb_bits, kernels->tile,     kernels->lanes,
                        kernels->max_limbs, kernels->max_half, (uint64_t)kernels->tables_of_doubles};
    result(sizes, sizeof sizes);
}

static void linear(void) {
    const size_t rows = number(), in_bytes = number(), out_bytes = number(), n = number(), limbs = limbs_for(in_bytes);
    const uint64_t *w = secret(8 * (2 * n + 1 + n * limbs));
    const struct linear_map map = {in_bytes, out_bytes, limbs, n, w[2 * n], w, w + n, w + 2 * n + 1};
    const uint8_t *in = secret(rows * in_bytes);
    uint8_t *out = allocated(rows * out_bytes);
    kernels->linear(&map, out, in, rows);
    result(out, rows * out_bytes);
}

static void fixed_encrypt(void) {
    const size_t rows = number();
    const struct ring ring = take_ring();
    const struct powers powers = take_powers(&ring);
    const struct messages messages = take_messages(rows);
    const uint8_t *exponents = secret(rows * powers.exponent_bytes);
    uint8_t *out = allocated(rows * ring.square_bytes);
    kernels->fixed_encrypt(&ring, &powers, &messages, out, exponents, rows);
    result(out, rows * ring.square_bytes);
}

static void fixed_read(void) {
    const size_t rows = number();
    const struct ring ring = take_ring();
    const struct powers powers = take_powers(&ring);
    const struct reduction in = take_reduction(&ring);
    const struct reading reading = take_reading(&ring, rows);
    const uint8_t *in_rows = secret(rows * in.in_bytes), *exponents = secret(rows * powers.exponent_bytes);
    kernels->fixed_read(&ring, &powers, &in, &reading, in_rows, exponents, rows);
    results_of(&reading, &ring, rows);
}

static void power_encrypt(void) {
    const size_t rows = number();
    const struct ring ring = take_ring();
    const struct exponent exponent = take_exponent();
    const struct reduction in = take_reduction(&ring);
    const struct messages messages = take_messages(rows);
    const uint8_t *in_rows = secret(rows * in.in_bytes);
    uint8_t *out = allocated(rows * ring.square_bytes);
    kernels->power_encrypt(&ring, &exponent, &in, &messages, out, in_rows, rows);
    result(out, rows * ring.square_bytes);
}

static void power_read(void) {
    const size_t rows = number();
    const struct ring ring = take_ring();
    const struct exponent exponent = take_exponent();
    const struct reduction in = take_reduction(&ring);
    const struct reading reading = take_reading(&ring, rows);
    const uint8_t *in_rows = secret(rows * in.in_bytes);
    kernels->power_read(&ring, &exponent, &in, &reading, in_rows, rows);
    results_of(&reading, &ring, rows);
}

/* ---- Encrypted blocks ------------------------------------------------------------------------------------------------ */

static const struct lattice_kernels *lattice;

static const struct lattice_prime *take_primes(void) { return secret(2 * sizeof(struct lattice_prime)); }

static void lattice_transform(void) {
    const struct lattice_prime *primes = take_primes();
    const size_t prime = number(), inverse = number(), rows = number(), bytes = 4 * LATTICE_DEGREE * rows;
    const uint32_t *in = secret(bytes);
    uint32_t *out = allocated(bytes);
    lattice->transform(&primes[prime], (int)inverse, out, in, rows);
    result(out, bytes);
}

static void lattice_evaluate(void) {
    const struct lattice_prime *primes = take_primes();
    const size_t words = number(), count = number(), bytes = 8 * LATTICE_DEGREE * words;
    const uint8_t *bodies[LATTICE_BODIES], *query = secret(bytes);
    uint16_t *values[LATTICE_BODIES];
    if (count > lattice->bodies) fail("more bodies than are evaluated at once");
    for (size_t b = 0; b < count; b++) bodies[b] = secret(bytes), values[b] = allocated(2 * LATTICE_DEGREE);
    lattice->evaluate(primes, values, bodies, count, query, words);
    for (size_t b = 0; b < count; b++) result(values[b], 2 * LATTICE_DEGREE);
}

static void lattice_mask(void) {
    struct lattice_masking m = {.primes = take_primes()};
    const size_t element = 4 * 2 * LATTICE_DEGREE;
    m.words = number();
    m.sums_of_noisy = (int)number();
    m.matrix = secret(m.words * LATTICE_RANK * element);
    m.other = secret(m.words * LATTICE_RANK * element);
    m.secret = secret(LATTICE_RANK * element);
    m.rows = number();
    m.noise = secret(m.words * 4 * LATTICE_DEGREE);
    m.codes = secret(m.words * m.rows);
    m.weights = secret(2 * sizeof *m.weights);
    m.tiles = allocated(m.words * 8 * LATTICE_DEGREE);
    m.sums = allocated(LATTICE_RANK * element);
    lattice->mask(&m);
    result(m.tiles, m.words * 8 * LATTICE_DEGREE);
    result(m.sums, LATTICE_RANK * element);
}

/* The slots are numbers, because the service names them: they are the only places that are looked up. */
static struct lattice_block take_block(const struct lattice_reading *r, size_t first) {
    struct lattice_block block = {.count = number(), .first = first, .valid = allocated(1)};
    int64_t *slots = allocated(8 * block.count);
    for (size_t i = 0; i < block.count; i++) slots[i] = (int64_t)number();
    block.slots = slots;
    block.secret = secret(LATTICE_RANK * LATTICE_DEGREE);
    block.hints = secret(r->slabs * LATTICE_RANK * LATTICE_DEGREE * LATTICE_HINT_BITS / 8);
    block.values = secret(r->queries * r->slabs * ((block.count * LATTICE_VALUE_BITS + 7) / 8));
    return block;
}

static void lattice_read(void) {
    struct lattice_reading r = {.prime = take_primes()};
    const size_t vector = 4 * LATTICE_RANK * LATTICE_DEGREE, count = number();
    struct lattice_block *blocks = allocated(count * sizeof *blocks);
    r.max_noise = number();
    r.queries = number();
    r.slabs = number();
    r.total = number();
    r.slab = secret(r.slabs * 16);
    r.asked = secret(r.queries * vector);
    r.kept = secret(r.queries * r.slabs * vector);
    for (size_t b = 0, first = 0; b < count; first += blocks[b].count, b++) blocks[b] = take_block(&r, first);
    r.distances = allocated(2 * r.queries * r.total);
    lattice->read(&r, blocks, count);
    result(r.distances, 2 * r.queries * r.total);
    for (size_t b = 0; b < count; b++) result(blocks[b].valid, 1);
}

/* ---- Plain C -------------------------------------------------------------------------------------------------------- */

static void below(void) {
    const size_t rows = number(), bytes = number();
    const uint8_t *in = secret(rows * bytes), *bound = secret(bytes);
    uint8_t *flags = allocated(rows);
    xtrace_below(flags, in, rows, bytes, bound);
    result(flags, rows);
}

static void encode_slots(void) {
    const size_t rows = number(), positions = number(), bytes = (2 * positions + 7) / 8;
    const uint8_t *bits = secret(rows * positions);
    uint8_t *out = allocated(rows * bytes);
    int binary = xtrace_encode_slots(out, bits, rows, positions);
    VALGRIND_MAKE_MEM_DEFINED(&binary, sizeof binary); /* the caller learns whether all were bits */
    if (!binary) fail("bits that are not");
    result(out, rows * bytes);
}

static void encode_digits(void) {
    const size_t rows = number(), positions = number(), bytes = xtrace_digits_bytes(positions);
    const uint8_t *bits = secret(rows * positions);
    uint8_t *out = allocated(rows * bytes);
    xtrace_encode_digits(out, bits, rows, positions);
    result(out, rows * bytes);
}

typedef void (*counting)(int64_t *, uint8_t *, const uint8_t *, size_t, size_t, size_t);

static void count_with(counting count) {
    const size_t rows = number(), bytes = number(), positions = number();
    const uint8_t *in = secret(rows * bytes);
    int64_t *counts = allocated(8 * rows);
    uint8_t *valid = allocated(rows);
    count(counts, valid, in, rows, bytes, positions);
    result(counts, 8 * rows);
    result(valid, rows);
}

static void count_slots(void) { count_with(xtrace_count_slots); }
static void count_digits(void) { count_with(xtrace_count_digits); }

static void decode_digits(void) {
    const size_t rows = number(), bytes = number(), positions = number();
    const uint8_t *in = secret(rows * bytes);
    uint8_t *bits = allocated(rows * positions), *valid = allocated(rows);
    xtrace_decode_digits(bits, valid, in, rows, bytes, positions);
    result(bits, rows * positions);
    result(valid, rows);
}

/* ---- Faults, to see that they are reported ---------------------------------------------------------------------------- */

static void planted_branch(void) {
    const volatile uint8_t *bytes = secret(1);
    if (*bytes & 1) puts("odd");
}

static void planted_overrun(void) {
    const size_t length = number();
    const volatile uint8_t *bytes = secret(length);
    uint8_t past = bytes[length];
    result(&past, 1);
}

static void planted_shift(void) {
    const volatile size_t places = number();
    uint64_t shifted = (uint64_t)1 << places;
    result(&shifted, 8);
}

/* ---- Jobs ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} RUNS[] = {
    {"shape", shape},
    {"linear", linear},
    {"fixed_encrypt", fixed_encrypt},
    {"fixed_read", fixed_read},
    {"power_encrypt", power_encrypt},
    {"power_read", power_read},
    {"transform", lattice_transform},
    {"evaluate", lattice_evaluate},
    {"mask", lattice_mask},
    {"read", lattice_read},
    {"below", below},
    {"encode_slots", encode_slots},
    {"count_slots", count_slots},
    {"encode_digits", encode_digits},
    {"count_digits", count_digits},
    {"decode_digits", decode_digits},
    {"planted_branch", planted_branch},
    {"planted_overrun", planted_overrun},
    {"planted_shift", planted_shift},
};

static void run(const char *name) {
    for (size_t i = 0; i < sizeof RUNS / sizeof RUNS[0]; i++)
        if (strcmp(RUNS[i].name, name) == 0) {
            RUNS[i].run();
            return;
        }
    fail("a job of an unknown name");
}

static const struct kernels *kernels_named(const char *name) {
#ifdef XTRACE_HAVE_IFMA
    if (strcmp(name, "ifma") == 0) return &xtrace_ifma;
#endif
#ifdef XTRACE_HAVE_AVX2
    if (strcmp(name, "avx2") == 0) return &xtrace_avx2;
#endif
#ifdef XTRACE_HAVE_NEON
    if (strcmp(name, "neon") == 0) return &xtrace_neon;
#endif
    return NULL;
}

static const struct lattice_kernels *lattice_kernels_named(const char *name) {
#ifdef XTRACE_HAVE_IFMA
    if (strcmp(name, "ifma") == 0) return &xtrace_ifma_lattice;
#endif
#ifdef XTRACE_HAVE_AVX2
    if (strcmp(name, "avx2") == 0) return &xtrace_avx2_lattice;
#endif
#ifdef XTRACE_HAVE_NEON
    if (strcmp(name, "neon") == 0) return &xtrace_neon_lattice;
#endif
    return &xtrace_plain_lattice;
}

/* harness JOBS KERNELS: "none" for jobs in plain C. */
int main(int count, char **arguments) {
    char name[17] = {0};
    if (count != 3 || !(jobs = fopen(arguments[1], "rb"))) fail("cannot read the jobs");
    kernels = kernels_named(arguments[2]);
    lattice = lattice_kernels_named(arguments[2]);
    if (!kernels && strcmp(arguments[2], "none") != 0) fail("these kernels were not compiled");
    while (fread(name, 16, 1, jobs) == 1) run(name);
    return fflush(stdout) == 0 ? 0 : 2;
}
