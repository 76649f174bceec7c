/* The Python module xtrace_core.arithmetic._native: arrays in, arrays out.
 *
 * Every function checks what it is given before a kernel sees it: contiguous arrays of the right type and exactly the
 * right size, outputs writable. What does not fit is a TypeError, ValueError or BufferError. Then the interpreter's lock
 * is released, and the batch goes over threads.
 */
#include "arguments.h"

#include "kernels.h"

static const struct kernels *kernels_named(const char *name) {
    for (const struct kernels *const *k = xtrace_supported_kernels(); *k; k++)
        if (strcmp((*k)->name, name) == 0) return *k;
    PyErr_Format(PyExc_ValueError, "this processor has no kernels named %s", name);
    return NULL;
}

static size_t limbs_for(const struct kernels *kernels, size_t bytes) {
    return (8 * bytes + kernels->limb_bits - 1) / kernels->limb_bits;
}

static bool odd(const uint64_t *modulus) {
    if (modulus[0] & 1) return true;
    PyErr_SetString(PyExc_ValueError, "the modulus is even, expected an odd one");
    return false;
}

/* ---- What the kernels take, from arrays --------------------------------------------------------------------------- */

/* The words are: prime (half), lift (half), message factor (half), one (2 half), inverse
 * (INVERSE_LIMBS). */
static bool take_ring(struct buffers *buffers, const struct kernels *kernels, PyObject *object, size_t half,
                      size_t prime_bytes, size_t square_bytes, struct ring *ring) {
    if (half == 0 || half % kernels->tile || half > kernels->max_half) {
        PyErr_Format(PyExc_ValueError, "a prime of %zu limbs, expected a multiple of %zu up to %zu", half,
                     kernels->tile, kernels->max_half);
        return false;
    }
    const size_t bits = kernels->limb_bits * half; /* a division below, because a product of any number may overflow */
    if (prime_bytes == 0 || prime_bytes > bits / 8 || square_bytes == 0 || square_bytes > 2 * bits / 8) {
        PyErr_SetString(PyExc_ValueError, "the bytes of the prime or its square are not what its limbs hold");
        return false;
    }
    const uint64_t *words = take_words(buffers, object, "the ring", 5 * half + INVERSE_LIMBS);
    if (!words) return false;
    *ring = (struct ring){half, prime_bytes, square_bytes, words + 5 * half, words, words + half, words + 2 * half,
                          words + 3 * half};
    return odd(words);
}

/* The words are: plus (2 half), table (2 half for each limb). */
static bool take_reduction(struct buffers *buffers, const struct kernels *kernels, PyObject *object, size_t half,
                           size_t in_bytes, struct reduction *reduction) {
    const size_t in_limbs = limbs_for(kernels, in_bytes);
    if (in_limbs > kernels->max_limbs) {
        PyErr_Format(PyExc_ValueError, "rows of %zu bytes are longer than these kernels take", in_bytes);
        return false;
    }
    const uint64_t *words = take_words(buffers, object, "the reduction", 2 * half * (in_limbs + 1));
    if (!words) return false;
    *reduction = (struct reduction){in_bytes, in_limbs, words, words + 2 * half};
    return true;
}

/* The bits of a window: a table with one row a window is as long as those windows take. 0 with an exception. */
static unsigned window_bits_of(const Py_buffer *table, size_t half, size_t windows_if_indexed, size_t windows) {
    const size_t words = (size_t)table->shape[0];
    const size_t indexed = windows_if_indexed * window_limbs(half, INDEXED_BITS);
    const size_t selected = windows * window_limbs(half, WINDOW_BITS);
    if (words == indexed) return INDEXED_BITS;
    if (words == selected) return WINDOW_BITS;
    PyErr_Format(PyExc_ValueError, "the table has %zu words, expected %zu or %zu", words, indexed, selected);
    return 0;
}

static Py_buffer *take_table(struct buffers *buffers, PyObject *object, bool writable) {
    return take(buffers, object, "the table", sizeof(long) == 8 ? "LQ" : "Q", 1, writable);
}

static bool take_powers(struct buffers *buffers, PyObject *object, size_t half, size_t exponent_bytes,
                        struct powers *powers) {
    const Py_buffer *table = take_table(buffers, object, false);
    if (!table) return false;
    *powers = (struct powers){exponent_bytes, window_bits_of(table, half, exponent_bytes, 2 * exponent_bytes),
                              table->buf};
    return powers->window_bits != 0;
}

/* None, or rows that fit below R. */
static bool take_messages(struct buffers *buffers, const struct kernels *kernels, PyObject *object, size_t half,
                          size_t rows, struct messages *messages) {
    *messages = (struct messages){0, NULL};
    if (object == Py_None) return true;
    const Py_buffer *view = take_rows(buffers, object, "the messages", false);
    if (!view || !has_shape(view, "the messages", rows, (size_t)view->shape[1])) return false;
    if (8 * (size_t)view->shape[1] > kernels->limb_bits * half) {
        PyErr_SetString(PyExc_ValueError, "the messages are longer than the prime");
        return false;
    }
    *messages = (struct messages){(size_t)view->shape[1], view->buf};
    return true;
}

static bool take_exponent(struct buffers *buffers, PyObject *object, struct exponent *exponent) {
    const Py_buffer *view = take(buffers, object, "the exponent", "B", 1, false);
    if (!view) return false;
    *exponent = (struct exponent){(size_t)view->shape[0], view->buf};
    uint8_t seen = 0;
    for (size_t i = 0; i < exponent->windows; i++) seen |= exponent->digits[i];
    if (exponent->windows && seen < WINDOW_SIZE) return true;
    PyErr_Format(PyExc_ValueError, "the exponent is empty or has a digit above %d", WINDOW_SIZE - 1);
    return false;
}

/* Outputs of reading: (factor, rows of the prime's width, bytes that say whether each is valid). */
static bool take_reading(struct buffers *buffers, PyObject *factor, PyObject *out, PyObject *valid,
                         const struct ring *ring, size_t rows, struct reading *reading) {
    const uint64_t *words = take_words(buffers, factor, "the factor", ring->half);
    if (!words) return false;
    Py_buffer *values = take_rows(buffers, out, "the output", true);
    if (!values || !has_shape(values, "the output", rows, ring->prime_bytes)) return false;
    Py_buffer *flags = take(buffers, valid, "the flags", "?", 1, true);
    if (!flags) return false;
    if ((size_t)flags->shape[0] != rows) {
        PyErr_Format(PyExc_ValueError, "got %zd flags, expected %zu", flags->shape[0], rows);
        return false;
    }
    *reading = (struct reading){words, values->buf, flags->buf};
    return true;
}

/* ---- Work for threads --------------------------------------------------------------------------------------------- */

struct task {
    const struct kernels *kernels;
    struct linear_map map;
    struct ring ring;
    struct reduction reduction;
    struct powers powers;
    struct messages messages;
    struct exponent exponent;
    struct reading reading;
    const uint8_t *in, *exponents;
    uint8_t *out;
    uint64_t *entries;
    size_t in_bytes, positions; /* of digits */
    int64_t *counts;
    uint8_t *valid;
    const struct code_kernel *codes;
    const int8_t *query;
    int32_t *dots;
};

static struct messages messages_from(const struct task *t, size_t first) {
    struct messages messages = t->messages;
    if (messages.rows) messages.rows += first * messages.bytes;
    return messages;
}

static struct reading reading_from(const struct task *t, size_t first) {
    struct reading reading = t->reading;
    reading.out += first * t->ring.prime_bytes;
    reading.valid += first;
    return reading;
}

static void work_linear(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    t->kernels->linear(&t->map, t->out + first * t->map.out_bytes, t->in + first * t->map.in_bytes, count);
}

static void work_table(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    const unsigned bits = t->powers.window_bits;
    t->kernels->table(&t->ring, &t->reduction, bits, t->entries + first * window_limbs(t->ring.half, bits),
                      t->in + first * t->reduction.in_bytes, count);
}

static void work_fixed_encrypt(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    const struct messages messages = messages_from(t, first);
    t->kernels->fixed_encrypt(&t->ring, &t->powers, &messages, t->out + first * t->ring.square_bytes,
                              t->exponents + first * t->powers.exponent_bytes, count);
}

static void work_fixed_read(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    const struct reading reading = reading_from(t, first);
    t->kernels->fixed_read(&t->ring, &t->powers, &t->reduction, &reading, t->in + first * t->reduction.in_bytes,
                           t->exponents + first * t->powers.exponent_bytes, count);
}

static void work_power_encrypt(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    const struct messages messages = messages_from(t, first);
    t->kernels->power_encrypt(&t->ring, &t->exponent, &t->reduction, &messages,
                              t->out + first * t->ring.square_bytes, t->in + first * t->reduction.in_bytes, count);
}

static void work_power_read(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    const struct reading reading = reading_from(t, first);
    t->kernels->power_read(&t->ring, &t->exponent, &t->reduction, &reading, t->in + first * t->reduction.in_bytes,
                           count);
}

static void work_encode_digits(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    xtrace_encode_digits(t->out + first * xtrace_digits_bytes(t->positions), t->in + first * t->positions, count,
                         t->positions);
}

static void work_count_digits(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    xtrace_count_digits(t->counts + first, t->valid + first, t->in + first * t->in_bytes, count, t->in_bytes,
                        t->positions);
}

static void work_decode_digits(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    xtrace_decode_digits(t->out + first * t->positions, t->valid + first, t->in + first * t->in_bytes, count,
                         t->in_bytes, t->positions);
}

static void work_nibble_dots(const void *task, size_t first, size_t count) {
    const struct task *t = task;
    t->codes->dots(t->dots + first, t->in + first * t->in_bytes, t->query, count, t->in_bytes);
}

static PyObject *run(struct buffers *buffers, xtrace_work work, const struct task *task, size_t rows, size_t block,
                     Py_ssize_t threads) {
    if (rows > 0) {
        Py_BEGIN_ALLOW_THREADS
        xtrace_in_threads(work, task, rows, block, threads > 1 ? (size_t)threads : 1);
        Py_END_ALLOW_THREADS
    }
    release(buffers);
    Py_RETURN_NONE;
}

/* Rows that one thread takes at a time: enough work for a thread to be worth its start. */
enum { BLOCK_LINEAR = 64, BLOCK_DIGITS = 64, BLOCK_FIXED = 16, BLOCK_POWER = 8, BLOCK_CODES = 1 << 14 };

/* ---- Functions of the module -------------------------------------------------------------------------------------- */

/* Increased with every change of what a function takes or gives, here and in backends.py. */
enum { INTERFACE = 2 };

static PyObject *py_interface(PyObject *module, PyObject *nothing) {
    (void)module, (void)nothing;
    return PyLong_FromLong(INTERFACE);
}

static PyObject *py_supported(PyObject *module, PyObject *nothing) {
    (void)module, (void)nothing;
    PyObject *list = PyList_New(0);
    for (const struct kernels *const *k = xtrace_supported_kernels(); list && *k; k++) {
        PyObject *entry = Py_BuildValue("(snnnnnO)", (*k)->name, (Py_ssize_t)(*k)->limb_bits, (Py_ssize_t)(*k)->tile,
                                        (Py_ssize_t)(*k)->lanes, (Py_ssize_t)(*k)->max_limbs,
                                        (Py_ssize_t)(*k)->max_half, (*k)->tables_of_doubles ? Py_True : Py_False);
        if (!entry || PyList_Append(list, entry) < 0) Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

/* linear(kernels, threads, out, rows, words, limbs); words: modulus, plus (limbs each), inverse, table. */
static PyObject *py_linear(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_ssize_t threads, limbs;
    PyObject *out, *in, *words;
    if (!PyArg_ParseTuple(args, "snOOOn", &name, &threads, &out, &in, &words, &limbs)) return NULL;
    struct buffers buffers = {.count = 0};
    struct task task = {.kernels = kernels_named(name)};
    if (!task.kernels) return NULL;
    const Py_buffer *rows = take_rows(&buffers, in, "the input", false);
    if (!rows) return refuse(&buffers);
    const Py_buffer *results = take_rows(&buffers, out, "the output", true);
    if (!results || !has_shape(results, "the output", (size_t)rows->shape[0], (size_t)results->shape[1]))
        return refuse(&buffers);
    const size_t in_bytes = (size_t)rows->shape[1], out_bytes = (size_t)results->shape[1];
    const size_t in_limbs = limbs_for(task.kernels, in_bytes), n = limbs > 0 ? (size_t)limbs : 0;
    if (n == 0 || n % task.kernels->tile || n > task.kernels->max_limbs || in_limbs > task.kernels->max_limbs ||
        8 * out_bytes > task.kernels->limb_bits * n) {
        PyErr_Format(PyExc_ValueError, "rows of %zu to rows of %zu bytes in %zu limbs: these kernels cannot", in_bytes,
                     out_bytes, n);
        return refuse(&buffers);
    }
    const uint64_t *w = take_words(&buffers, words, "the map", 2 * n + 1 + n * in_limbs);
    if (!w || !odd(w)) return refuse(&buffers);
    task.map = (struct linear_map){in_bytes, out_bytes, in_limbs, n, w[2 * n], w, w + n, w + 2 * n + 1};
    task.in = rows->buf;
    task.out = results->buf;
    return run(&buffers, work_linear, &task, (size_t)rows->shape[0], BLOCK_LINEAR, threads);
}

/* What the functions on rings begin with. */
struct ring_arguments {
    const char *name;
    Py_ssize_t threads, half, prime_bytes, square_bytes;
    PyObject *ring;
};

static bool begin(struct buffers *buffers, const struct ring_arguments *a, struct task *task) {
    task->kernels = kernels_named(a->name);
    if (!task->kernels) return false;
    if (a->half < 0 || a->prime_bytes < 0 || a->square_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "a length is negative");
        return false;
    }
    return take_ring(buffers, task->kernels, a->ring, (size_t)a->half, (size_t)a->prime_bytes,
                     (size_t)a->square_bytes, &task->ring);
}

#define RING_FORMAT "sn(nnnO)"
#define RING_TARGETS(a) &(a).name, &(a).threads, &(a).half, &(a).prime_bytes, &(a).square_bytes, &(a).ring

/* table(kernels, threads, ring, entries, bases, reduction) */
static PyObject *py_table(PyObject *module, PyObject *args) {
    (void)module;
    struct ring_arguments a;
    PyObject *entries, *bases, *reduction;
    if (!PyArg_ParseTuple(args, RING_FORMAT "OOO", RING_TARGETS(a), &entries, &bases, &reduction)) return NULL;
    struct buffers buffers = {.count = 0};
    struct task task = {0};
    if (!begin(&buffers, &a, &task)) return refuse(&buffers);
    const Py_buffer *rows = take_rows(&buffers, bases, "the bases", false);
    if (!rows || !take_reduction(&buffers, task.kernels, reduction, task.ring.half, (size_t)rows->shape[1],
                                 &task.reduction))
        return refuse(&buffers);
    const Py_buffer *out = take_table(&buffers, entries, true);
    if (!out) return refuse(&buffers);
    const size_t windows = (size_t)rows->shape[0];
    task.powers.window_bits = window_bits_of(out, task.ring.half, windows, windows);
    if (!task.powers.window_bits) return refuse(&buffers);
    task.in = rows->buf;
    task.entries = out->buf;
    return run(&buffers, work_table, &task, (size_t)rows->shape[0], task.kernels->lanes, a.threads);
}

/* fixed_encrypt(kernels, threads, ring, table, out, exponents, messages or None) */
static PyObject *py_fixed_encrypt(PyObject *module, PyObject *args) {
    (void)module;
    struct ring_arguments a;
    PyObject *table, *out, *exponents, *messages;
    if (!PyArg_ParseTuple(args, RING_FORMAT "OOOO", RING_TARGETS(a), &table, &out, &exponents, &messages)) return NULL;
    struct buffers buffers = {.count = 0};
    struct task task = {0};
    if (!begin(&buffers, &a, &task)) return refuse(&buffers);
    const Py_buffer *own = take_rows(&buffers, exponents, "the exponents", false);
    if (!own) return refuse(&buffers);
    const size_t rows = (size_t)own->shape[0], half = task.ring.half;
    const Py_buffer *results = take_rows(&buffers, out, "the output", true);
    if (!results || !has_shape(results, "the output", rows, task.ring.square_bytes) ||
        !take_powers(&buffers, table, half, (size_t)own->shape[1], &task.powers) ||
        !take_messages(&buffers, task.kernels, messages, half, rows, &task.messages))
        return refuse(&buffers);
    task.exponents = own->buf;
    task.out = results->buf;
    return run(&buffers, work_fixed_encrypt, &task, rows, BLOCK_FIXED, a.threads);
}

/* fixed_read(kernels, threads, ring, table, reduction, factor, out, valid, rows, exponents) */
static PyObject *py_fixed_read(PyObject *module, PyObject *args) {
    (void)module;
    struct ring_arguments a;
    PyObject *table, *reduction, *factor, *out, *valid, *in, *exponents;
    if (!PyArg_ParseTuple(args, RING_FORMAT "OOOOOOO", RING_TARGETS(a), &table, &reduction, &factor, &out, &valid, &in,
                          &exponents))
        return NULL;
    struct buffers buffers = {.count = 0};
    struct task task = {0};
    if (!begin(&buffers, &a, &task)) return refuse(&buffers);
    const Py_buffer *products = take_rows(&buffers, in, "the input", false);
    if (!products) return refuse(&buffers);
    const size_t rows = (size_t)products->shape[0], half = task.ring.half;
    const Py_buffer *own = take_rows(&buffers, exponents, "the exponents", false);
    if (!own || !has_shape(own, "the exponents", rows, (size_t)own->shape[1]) ||
        !take_powers(&buffers, table, half, (size_t)own->shape[1], &task.powers) ||
        !take_reduction(&buffers, task.kernels, reduction, half, (size_t)products->shape[1], &task.reduction) ||
        !take_reading(&buffers, factor, out, valid, &task.ring, rows, &task.reading))
        return refuse(&buffers);
    task.in = products->buf;
    task.exponents = own->buf;
    return run(&buffers, work_fixed_read, &task, rows, BLOCK_FIXED, a.threads);
}

/* power_encrypt(kernels, threads, ring, exponent, reduction, out, rows, messages or None) */
static PyObject *py_power_encrypt(PyObject *module, PyObject *args) {
    (void)module;
    struct ring_arguments a;
    PyObject *exponent, *reduction, *out, *in, *messages;
    if (!PyArg_ParseTuple(args, RING_FORMAT "OOOOO", RING_TARGETS(a), &exponent, &reduction, &out, &in, &messages))
        return NULL;
    struct buffers buffers = {.count = 0};
    struct task task = {0};
    if (!begin(&buffers, &a, &task)) return refuse(&buffers);
    const Py_buffer *bases = take_rows(&buffers, in, "the input", false);
    if (!bases) return refuse(&buffers);
    const size_t rows = (size_t)bases->shape[0], half = task.ring.half;
    const Py_buffer *results = take_rows(&buffers, out, "the output", true);
    if (!results || !has_shape(results, "the output", rows, task.ring.square_bytes) ||
        !take_exponent(&buffers, exponent, &task.exponent) ||
        !take_reduction(&buffers, task.kernels, reduction, half, (size_t)bases->shape[1], &task.reduction) ||
        !take_messages(&buffers, task.kernels, messages, half, rows, &task.messages))
        return refuse(&buffers);
    task.in = bases->buf;
    task.out = results->buf;
    return run(&buffers, work_power_encrypt, &task, rows, BLOCK_POWER, a.threads);
}

/* power_read(kernels, threads, ring, exponent, reduction, factor, out, valid, rows) */
static PyObject *py_power_read(PyObject *module, PyObject *args) {
    (void)module;
    struct ring_arguments a;
    PyObject *exponent, *reduction, *factor, *out, *valid, *in;
    if (!PyArg_ParseTuple(args, RING_FORMAT "OOOOOO", RING_TARGETS(a), &exponent, &reduction, &factor, &out, &valid,
                          &in))
        return NULL;
    struct buffers buffers = {.count = 0};
    struct task task = {0};
    if (!begin(&buffers, &a, &task)) return refuse(&buffers);
    const Py_buffer *products = take_rows(&buffers, in, "the input", false);
    if (!products) return refuse(&buffers);
    const size_t rows = (size_t)products->shape[0];
    if (!take_exponent(&buffers, exponent, &task.exponent) ||
        !take_reduction(&buffers, task.kernels, reduction, task.ring.half, (size_t)products->shape[1],
                        &task.reduction) ||
        !take_reading(&buffers, factor, out, valid, &task.ring, rows, &task.reading))
        return refuse(&buffers);
    task.in = products->buf;
    return run(&buffers, work_power_read, &task, rows, BLOCK_POWER, a.threads);
}

/* below(flags, rows, bound) */
static PyObject *py_below(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *out, *in, *limit;
    if (!PyArg_ParseTuple(args, "OOO", &out, &in, &limit)) return NULL;
    struct buffers buffers = {.count = 0};
    const Py_buffer *rows = take_rows(&buffers, in, "the input", false);
    if (!rows) return refuse(&buffers);
    const Py_buffer *bound = take(&buffers, limit, "the bound", "B", 1, false);
    if (!bound) return refuse(&buffers);
    const Py_buffer *flags = take(&buffers, out, "the flags", "?", 1, true);
    if (!flags) return refuse(&buffers);
    if (bound->shape[0] != rows->shape[1] || flags->shape[0] != rows->shape[0]) {
        PyErr_SetString(PyExc_ValueError, "the bound has another width than the rows, or there are not as many flags");
        return refuse(&buffers);
    }
    Py_BEGIN_ALLOW_THREADS
    xtrace_below(flags->buf, rows->buf, (size_t)rows->shape[0], (size_t)rows->shape[1], bound->buf);
    Py_END_ALLOW_THREADS
    release(&buffers);
    Py_RETURN_NONE;
}

/* encode_slots(out, bits) */
static PyObject *py_encode_slots(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *out, *in;
    if (!PyArg_ParseTuple(args, "OO", &out, &in)) return NULL;
    struct buffers buffers = {.count = 0};
    const Py_buffer *bits = take_rows(&buffers, in, "the bits", false);
    if (!bits) return refuse(&buffers);
    const size_t count = (size_t)bits->shape[0], positions = (size_t)bits->shape[1];
    const Py_buffer *rows = take_rows(&buffers, out, "the output", true);
    if (!rows || !has_shape(rows, "the output", count, (2 * positions + 7) / 8)) return refuse(&buffers);
    int binary;
    Py_BEGIN_ALLOW_THREADS
    binary = xtrace_encode_slots(rows->buf, bits->buf, count, positions);
    Py_END_ALLOW_THREADS
    release(&buffers);
    if (!binary) {
        PyErr_SetString(PyExc_ValueError, "got a bit that is neither 0 nor 1");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* count_slots(counts, flags, rows, positions) */
static PyObject *py_count_slots(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *counts, *out, *in;
    Py_ssize_t positions;
    if (!PyArg_ParseTuple(args, "OOOn", &counts, &out, &in, &positions)) return NULL;
    struct buffers buffers = {.count = 0};
    const Py_buffer *rows = take_rows(&buffers, in, "the input", false);
    if (!rows) return refuse(&buffers);
    const Py_buffer *sums = take(&buffers, counts, "the counts", sizeof(long) == 8 ? "lq" : "q", 1, true);
    if (!sums) return refuse(&buffers);
    const Py_buffer *flags = take(&buffers, out, "the flags", "?", 1, true);
    if (!flags) return refuse(&buffers);
    if (positions < 0 || sums->shape[0] != rows->shape[0] || flags->shape[0] != rows->shape[0]) {
        PyErr_SetString(PyExc_ValueError, "the counts or the flags are not as many as the rows");
        return refuse(&buffers);
    }
    Py_BEGIN_ALLOW_THREADS
    xtrace_count_slots(sums->buf, flags->buf, rows->buf, (size_t)rows->shape[0], (size_t)rows->shape[1],
                       (size_t)positions);
    Py_END_ALLOW_THREADS
    release(&buffers);
    Py_RETURN_NONE;
}

/* Whether kernels for digits take so many positions, and rows of so many bytes. */
static bool digits_fit(size_t positions, size_t bytes) {
    if (positions <= CHUNK_DIGITS * MAX_CHUNKS && bytes <= 8 * MAX_CHUNKS) return true;
    PyErr_Format(PyExc_ValueError, "%zu digits in rows of %zu bytes, expected at most %d in %d", positions, bytes,
                 CHUNK_DIGITS * MAX_CHUNKS, 8 * MAX_CHUNKS);
    return false;
}

/* encode_digits(threads, out, bits) */
static PyObject *py_encode_digits(PyObject *module, PyObject *args) {
    (void)module;
    Py_ssize_t threads;
    PyObject *out, *in;
    if (!PyArg_ParseTuple(args, "nOO", &threads, &out, &in)) return NULL;
    struct buffers buffers = {.count = 0};
    const Py_buffer *bits = take_rows(&buffers, in, "the bits", false);
    if (!bits) return refuse(&buffers);
    const size_t count = (size_t)bits->shape[0], positions = (size_t)bits->shape[1];
    const Py_buffer *rows = take_rows(&buffers, out, "the output", true);
    if (!rows || !digits_fit(positions, (size_t)rows->shape[1]) ||
        !has_shape(rows, "the output", count, xtrace_digits_bytes(positions)))
        return refuse(&buffers);
    const struct task task = {.in = bits->buf, .out = rows->buf, .positions = positions};
    return run(&buffers, work_encode_digits, &task, count, BLOCK_DIGITS, threads);
}

/* count_digits(threads, counts, flags, rows, positions) */
static PyObject *py_count_digits(PyObject *module, PyObject *args) {
    (void)module;
    Py_ssize_t threads, positions;
    PyObject *counts, *flags, *in;
    if (!PyArg_ParseTuple(args, "nOOOn", &threads, &counts, &flags, &in, &positions)) return NULL;
    struct buffers buffers = {.count = 0};
    const Py_buffer *rows = take_rows(&buffers, in, "the input", false);
    if (!rows || !digits_fit((size_t)positions, (size_t)rows->shape[1])) return refuse(&buffers);
    const Py_buffer *sums = take(&buffers, counts, "the counts", sizeof(long) == 8 ? "lq" : "q", 1, true);
    if (!sums) return refuse(&buffers);
    const Py_buffer *valid = take(&buffers, flags, "the flags", "?", 1, true);
    if (!valid) return refuse(&buffers);
    if (sums->shape[0] != rows->shape[0] || valid->shape[0] != rows->shape[0]) {
        PyErr_SetString(PyExc_ValueError, "the counts or the flags are not as many as the rows");
        return refuse(&buffers);
    }
    const struct task task = {.in = rows->buf, .in_bytes = (size_t)rows->shape[1], .positions = (size_t)positions,
                              .counts = sums->buf, .valid = valid->buf};
    return run(&buffers, work_count_digits, &task, (size_t)rows->shape[0], BLOCK_DIGITS, threads);
}

/* decode_digits(threads, bits, flags, rows) */
static PyObject *py_decode_digits(PyObject *module, PyObject *args) {
    (void)module;
    Py_ssize_t threads;
    PyObject *out, *flags, *in;
    if (!PyArg_ParseTuple(args, "nOOO", &threads, &out, &flags, &in)) return NULL;
    struct buffers buffers = {.count = 0};
    const Py_buffer *rows = take_rows(&buffers, in, "the input", false);
    if (!rows) return refuse(&buffers);
    const Py_buffer *bits = take_rows(&buffers, out, "the bits", true);
    if (!bits || !digits_fit((size_t)bits->shape[1], (size_t)rows->shape[1]) ||
        !has_shape(bits, "the bits", (size_t)rows->shape[0], (size_t)bits->shape[1]))
        return refuse(&buffers);
    const Py_buffer *valid = take(&buffers, flags, "the flags", "?", 1, true);
    if (!valid) return refuse(&buffers);
    if (valid->shape[0] != rows->shape[0]) {
        PyErr_SetString(PyExc_ValueError, "the flags are not as many as the rows");
        return refuse(&buffers);
    }
    const struct task task = {.in = rows->buf, .in_bytes = (size_t)rows->shape[1], .out = bits->buf,
                              .positions = (size_t)bits->shape[1], .valid = valid->buf};
    return run(&buffers, work_decode_digits, &task, (size_t)rows->shape[0], BLOCK_DIGITS, threads);
}

static PyObject *py_code_kernels(PyObject *module, PyObject *nothing) {
    (void)module, (void)nothing;
    PyObject *list = PyList_New(0);
    for (const struct code_kernel *const *k = xtrace_supported_code_kernels(); list && *k; k++) {
        PyObject *name = PyUnicode_FromString((*k)->name);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static const struct code_kernel *code_kernel_named(const char *name) {
    for (const struct code_kernel *const *k = xtrace_supported_code_kernels(); *k; k++)
        if (strcmp((*k)->name, name) == 0) return *k;
    PyErr_Format(PyExc_ValueError, "this processor has no kernel for codes named %s", name);
    return NULL;
}

/* Two rows of numbers, as many as a code has bytes, none larger than the kernels allow. */
static const int8_t *take_code_query(struct buffers *buffers, PyObject *object, size_t bytes) {
    const Py_buffer *view = take(buffers, object, "the query", "b", 2, false);
    if (!view || !has_shape(view, "the query", 2, bytes)) return NULL;
    const int8_t *query = view->buf;
    for (size_t i = 0; i < 2 * bytes; i++)
        if (query[i] < -MAX_CODE_QUERY || query[i] > MAX_CODE_QUERY) {
            PyErr_Format(PyExc_ValueError, "the query has a number outside -%d to %d", MAX_CODE_QUERY, MAX_CODE_QUERY);
            return NULL;
        }
    return query;
}

/* nibble_dots(kernel, threads, dots, codes, query) */
static PyObject *py_nibble_dots(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_ssize_t threads;
    PyObject *out, *in, *numbers;
    if (!PyArg_ParseTuple(args, "snOOO", &name, &threads, &out, &in, &numbers)) return NULL;
    struct buffers buffers = {.count = 0};
    const struct code_kernel *kernel = code_kernel_named(name);
    if (!kernel) return NULL;
    const Py_buffer *codes = take_rows(&buffers, in, "the codes", false);
    if (!codes) return refuse(&buffers);
    const size_t rows = (size_t)codes->shape[0], bytes = (size_t)codes->shape[1];
    if (bytes > MAX_CODE_BYTES) {
        PyErr_Format(PyExc_ValueError, "codes of %zu bytes, expected at most %d", bytes, MAX_CODE_BYTES);
        return refuse(&buffers);
    }
    const int8_t *query = take_code_query(&buffers, numbers, bytes);
    if (!query) return refuse(&buffers);
    const Py_buffer *dots = take(&buffers, out, "the dot products", "i", 1, true);
    if (!dots) return refuse(&buffers);
    if ((size_t)dots->shape[0] != rows) {
        PyErr_SetString(PyExc_ValueError, "there are not as many dot products as codes");
        return refuse(&buffers);
    }
    const struct task task = {.codes = kernel, .in = codes->buf, .in_bytes = bytes, .query = query, .dots = dots->buf};
    return run(&buffers, work_nibble_dots, &task, rows, BLOCK_CODES, threads);
}

static PyMethodDef methods[] = {
    {"interface", py_interface, METH_NOARGS, "The number of this interface, which the Python code compares with its own."},
    {"supported", py_supported, METH_NOARGS,
     "The kernels that this processor runs, fastest first: (name, limb bits, tile, lanes, most limbs, most half, whether "
     "tables are of doubles)."},
    {"linear", py_linear, METH_VARARGS, "A linear map of rows modulo an odd modulus."},
    {"table", py_table, METH_VARARGS, "A table of powers of a fixed base."},
    {"fixed_encrypt", py_fixed_encrypt, METH_VARARGS, "Messages times powers of a fixed base."},
    {"fixed_read", py_fixed_read, METH_VARARGS, "Messages of rows times powers of a fixed base."},
    {"power_encrypt", py_power_encrypt, METH_VARARGS, "Messages times powers of rows with a shared exponent."},
    {"power_read", py_power_read, METH_VARARGS, "Messages of powers of rows with a shared exponent."},
    {"below", py_below, METH_VARARGS, "Whether rows are above zero and below a bound."},
    {"encode_slots", py_encode_slots, METH_VARARGS, "Binary vectors in base 4."},
    {"count_slots", py_count_slots, METH_VARARGS, "How many pairs of bits read 1, and whether none reads 3."},
    {"encode_digits", py_encode_digits, METH_VARARGS, "Binary vectors in base 3."},
    {"count_digits", py_count_digits, METH_VARARGS, "How many digits to base 3 are 1, and whether none is left over."},
    {"decode_digits", py_decode_digits, METH_VARARGS, "Binary vectors from base 3."},
    {"code_kernels", py_code_kernels, METH_NOARGS, "The kernels for codes that this processor runs, fastest first."},
    {"nibble_dots", py_nibble_dots, METH_VARARGS, "Dot products of codes of 4 bits with a query."},
    {"lattice_kernels", xtrace_py_lattice_kernels, METH_NOARGS,
     "The kernels for encrypted blocks that this processor runs, fastest first."},
    {"lattice_transform", xtrace_py_lattice_transform, METH_VARARGS, "Ring elements to their values, and back."},
    {"lattice_values", xtrace_py_lattice_values, METH_VARARGS, "Values of blocks for queries."},
    {"lattice_masked", xtrace_py_lattice_masked, METH_VARARGS, "Rows of a block or a query, and their sums."},
    {"lattice_read", xtrace_py_lattice_read, METH_VARARGS, "Distances from the values of blocks."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Compiled kernels; xtrace_core.arithmetic.compiled uses them.", 0, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
