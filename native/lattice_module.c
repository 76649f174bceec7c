/* The functions of the Python module that compute with encrypted blocks. */
#include "arguments.h"

#include "kernels.h"

static const char *const HALF_WORDS = sizeof(long) == 4 ? "IL" : "I";

PyObject *xtrace_py_lattice_kernels(PyObject *module, PyObject *nothing) {
    (void)module, (void)nothing;
    PyObject *list = PyList_New(0);
    for (const struct lattice_kernels *const *k = xtrace_supported_lattice_kernels(); list && *k; k++) {
        PyObject *name = PyUnicode_FromString((*k)->name);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static const struct lattice_kernels *kernels_named(const char *name) {
    for (const struct lattice_kernels *const *k = xtrace_supported_lattice_kernels(); *k; k++)
        if (strcmp((*k)->name, name) == 0) return *k;
    PyErr_Format(PyExc_ValueError, "this processor has no kernels for blocks named %s", name);
    return NULL;
}

/* What is prepared about both primes. */
static const struct lattice_prime *take_primes(struct buffers *buffers, PyObject *object) {
    const uint64_t *words = take_words(buffers, object, "the primes", 2 * sizeof(struct lattice_prime) / 8);
    return (const struct lattice_prime *)words;
}

/* An array of exactly so many numbers. */
static void *take_exactly(struct buffers *buffers, PyObject *object, const char *name, const char *formats,
                          int dimensions, size_t numbers, size_t size, bool writable) {
    const Py_buffer *view = take(buffers, object, name, formats, dimensions, writable);
    if (!view) return NULL;
    if ((size_t)view->len == numbers * size) return view->buf;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, expected %zu", name, view->len, numbers * size);
    return NULL;
}

/* ---- Transforms ---------------------------------------------------------------------------------------------------- */

/* lattice_transform(kernels, primes, prime, inverse, out, rows) */
PyObject *xtrace_py_lattice_transform(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    int prime, inverse;
    PyObject *table, *out, *in;
    if (!PyArg_ParseTuple(args, "sOipOO", &name, &table, &prime, &inverse, &out, &in)) return NULL;
    struct buffers buffers = {.count = 0};
    const struct lattice_kernels *kernels = kernels_named(name);
    if (!kernels) return NULL;
    const struct lattice_prime *primes = take_primes(&buffers, table);
    if (!primes) return refuse(&buffers);
    if (prime < 0 || prime > 1) {
        PyErr_Format(PyExc_ValueError, "the number of the prime is %d, expected 0 or 1", prime);
        return refuse(&buffers);
    }
    const Py_buffer *rows = take(&buffers, in, "the input", HALF_WORDS, 2, false);
    if (!rows || !has_shape(rows, "the input", (size_t)rows->shape[0], LATTICE_DEGREE)) return refuse(&buffers);
    const size_t count = (size_t)rows->shape[0];
    uint32_t *values = take_exactly(&buffers, out, "the output", HALF_WORDS, 2, count * LATTICE_DEGREE, 4, true);
    if (!values) return refuse(&buffers);
    Py_BEGIN_ALLOW_THREADS
    kernels->transform(&primes[prime], inverse, values, rows->buf, count);
    Py_END_ALLOW_THREADS
    release(&buffers);
    Py_RETURN_NONE;
}

/* ---- Evaluation ---------------------------------------------------------------------------------------------------- */

#define ANY_LENGTH ((size_t)-1)

/* Buffers of a sequence, each of the same length. */
struct parts {
    Py_buffer *views;
    size_t count;
};

static void release_parts(struct parts *parts) {
    while (parts->count > 0) PyBuffer_Release(&parts->views[--parts->count]);
    PyMem_Free(parts->views);
}

static bool take_parts(struct parts *parts, PyObject *sequence, const char *name, size_t bytes) {
    const Py_ssize_t count = PyTuple_Size(sequence); /* -1 with an exception for anything else */
    if (count < 0) return false;
    parts->views = PyMem_Malloc(((size_t)count + 1) * sizeof *parts->views);
    if (!parts->views) return PyErr_NoMemory(), false;
    for (; parts->count < (size_t)count; parts->count++) {
        Py_buffer *view = &parts->views[parts->count];
        if (PyObject_GetBuffer(PyTuple_GetItem(sequence, (Py_ssize_t)parts->count), view, PyBUF_C_CONTIGUOUS) < 0)
            return false;
        if (bytes != ANY_LENGTH && (size_t)view->len != bytes) {
            PyErr_Format(PyExc_ValueError, "%s has %zd bytes, expected %zu", name, view->len, bytes);
            PyBuffer_Release(view);
            return false;
        }
    }
    return true;
}

struct evaluation {
    const struct lattice_kernels *kernels;
    const struct lattice_prime *primes;
    struct parts bodies, queries;
    size_t words, slab_words, slabs;
    uint16_t *values; /* [bodies][queries][slabs][LATTICE_DEGREE] */
};

/* As many bodies at once as the kernels take, so that what is loaded of a query serves all of them. */
static void evaluate(const struct evaluation *e) {
    for (size_t body = 0; body < e->bodies.count; body += e->kernels->bodies) {
        const size_t left = e->bodies.count - body, count = left < e->kernels->bodies ? left : e->kernels->bodies;
        for (size_t query = 0; query < e->queries.count; query++)
            for (size_t slab = 0, word = 0; slab < e->slabs; slab++, word += e->slab_words) {
                const size_t words = e->words - word < e->slab_words ? e->words - word : e->slab_words;
                const uint8_t *bodies[LATTICE_BODIES];
                uint16_t *values[LATTICE_BODIES];
                for (size_t b = 0; b < count; b++) {
                    bodies[b] = (const uint8_t *)e->bodies.views[body + b].buf + 8 * LATTICE_DEGREE * word;
                    values[b] =
                        e->values + (((body + b) * e->queries.count + query) * e->slabs + slab) * LATTICE_DEGREE;
                }
                const uint8_t *asked = (const uint8_t *)e->queries.views[query].buf + 8 * LATTICE_DEGREE * word;
                e->kernels->evaluate(e->primes, values, bodies, count, asked, words);
            }
    }
}

static bool take_evaluation(struct buffers *buffers, struct evaluation *e, PyObject *table, PyObject *values,
                            PyObject *bodies, PyObject *queries) {
    if (e->words == 0 || e->slab_words == 0 || e->words > 1024) {
        PyErr_Format(PyExc_ValueError, "slabs of %zu of %zu words, expected 1 to 1024", e->slab_words, e->words);
        return false;
    }
    e->slabs = (e->words + e->slab_words - 1) / e->slab_words;
    e->primes = take_primes(buffers, table);
    const size_t bytes = 8 * LATTICE_DEGREE * e->words;
    if (!e->primes || !take_parts(&e->bodies, bodies, "a body", bytes) ||
        !take_parts(&e->queries, queries, "a query", bytes))
        return false;
    const size_t numbers = e->bodies.count * e->queries.count * e->slabs * LATTICE_DEGREE;
    e->values = take_exactly(buffers, values, "the output", "H", 4, numbers, 2, true);
    return e->values != NULL;
}

/* lattice_values(kernels, primes, words, words of a slab, out, bodies, queries) */
PyObject *xtrace_py_lattice_values(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_ssize_t words, slab_words;
    PyObject *table, *values, *bodies, *queries;
    if (!PyArg_ParseTuple(args, "sOnnOOO", &name, &table, &words, &slab_words, &values, &bodies, &queries))
        return NULL;
    struct buffers buffers = {.count = 0};
    struct evaluation e = {.kernels = kernels_named(name), .words = (size_t)words, .slab_words = (size_t)slab_words};
    if (!e.kernels) return NULL;
    const bool valid = take_evaluation(&buffers, &e, table, values, bodies, queries);
    if (valid) {
        Py_BEGIN_ALLOW_THREADS
        evaluate(&e);
        Py_END_ALLOW_THREADS
    }
    release_parts(&e.bodies);
    release_parts(&e.queries);
    release(&buffers);
    if (!valid) return NULL;
    Py_RETURN_NONE;
}

/* ---- Masking ------------------------------------------------------------------------------------------------------- */

/* lattice_masked(kernels, primes, sums of noisy, sums, matrix, other, secret, noise, codes, weights) -> tiles */
PyObject *xtrace_py_lattice_masked(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    struct lattice_masking m = {0};
    PyObject *table, *sums, *matrix, *other, *secret, *noise, *codes, *weights;
    if (!PyArg_ParseTuple(args, "sOpOOOOOOO", &name, &table, &m.sums_of_noisy, &sums, &matrix, &other, &secret,
                          &noise, &codes, &weights))
        return NULL;
    struct buffers buffers = {.count = 0};
    const struct lattice_kernels *kernels = kernels_named(name);
    if (!kernels) return NULL;
    const Py_buffer *rows = take(&buffers, noise, "the noise", HALF_WORDS, 2, false);
    if (!rows || !has_shape(rows, "the noise", (size_t)rows->shape[0], LATTICE_DEGREE)) return refuse(&buffers);
    const size_t element = 2 * LATTICE_DEGREE, all = (size_t)rows->shape[0] * LATTICE_RANK * element;
    m.words = (size_t)rows->shape[0];
    m.noise = rows->buf;
    const Py_buffer *bits = take(&buffers, codes, "the codes", "B", 2, false);
    if (!bits || !has_shape(bits, "the codes", m.words, (size_t)bits->shape[1])) return refuse(&buffers);
    m.codes = bits->buf;
    m.rows = (size_t)bits->shape[1];
    if (m.rows > LATTICE_DEGREE) {
        PyErr_Format(PyExc_ValueError, "the codes have %zu rows, expected at most %d", m.rows, LATTICE_DEGREE);
        return refuse(&buffers);
    }
    if (!(m.primes = take_primes(&buffers, table)) ||
        !(m.weights = take_exactly(&buffers, weights, "the weights", HALF_WORDS, 2, 2 * (1 + LATTICE_FOLD), 4, false)) ||
        !(m.matrix = take_exactly(&buffers, matrix, "the matrix", HALF_WORDS, 4, all, 4, false)) ||
        !(m.other = take_exactly(&buffers, other, "the other matrix", HALF_WORDS, 4, all, 4, false)) ||
        !(m.secret = take_exactly(&buffers, secret, "the secret", HALF_WORDS, 3, LATTICE_RANK * element, 4, false)) ||
        !(m.sums = take_exactly(&buffers, sums, "the sums", HALF_WORDS, 3, LATTICE_RANK * element, 4, true)))
        return refuse(&buffers);
    PyObject *tiles = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(8 * m.words * LATTICE_DEGREE));
    if (!tiles) return refuse(&buffers);
    m.tiles = (uint8_t *)PyBytes_AsString(tiles); /* nothing else knows these bytes yet */
    Py_BEGIN_ALLOW_THREADS
    kernels->mask(&m);
    Py_END_ALLOW_THREADS
    release(&buffers);
    return tiles;
}

/* ---- Reading ------------------------------------------------------------------------------------------------------- */

enum { READ_AT_ONCE = 8 }; /* blocks that a thread takes at a time */

struct unread {
    const struct lattice_kernels *kernels;
    struct lattice_reading reading;
    struct parts secrets, hints, slots, values;
    struct lattice_block *blocks;
};

static void read_some(const void *arguments, size_t first, size_t count) {
    const struct unread *u = arguments;
    u->kernels->read(&u->reading, u->blocks + first, count);
}

/* Whether slots are ascending and below the degree: they are the places of what is read. */
static bool are_slots(const int64_t *slots, size_t count) {
    int64_t before = -1, wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong |= slots[i] <= before;
        before = slots[i];
    }
    return !wrong && before < LATTICE_DEGREE;
}

/* Whether the bits after the last value are zero. */
static bool is_padded(const uint8_t *values, size_t parts, size_t bytes, size_t count) {
    uint8_t beyond = 0;
    for (size_t i = 1; count % 2 && i <= parts; i++) beyond |= values[i * bytes - 1] >> 4;
    return beyond == 0;
}

/* Fills in one block, whose distances begin where those before end; zero with an exception if something is wrong. */
static bool take_block(struct unread *u, size_t number, size_t first, uint8_t *valid) {
    struct lattice_block *block = &u->blocks[number];
    const Py_buffer *slots = &u->slots.views[number], *values = &u->values.views[number];
    const size_t count = (size_t)slots->len / 8, parts = u->reading.queries * u->reading.slabs;
    const size_t bytes = (count * LATTICE_VALUE_BITS + 7) / 8;
    *block = (struct lattice_block){u->secrets.views[number].buf, u->hints.views[number].buf, values->buf, slots->buf,
                                    count, first, &valid[number]};
    if (slots->len % 8 || !are_slots(block->slots, count)) {
        PyErr_SetString(PyExc_ValueError, "slots are not ascending, or not below 1024");
        return false;
    }
    if ((size_t)values->len != parts * bytes) {
        PyErr_Format(PyExc_ValueError, "got %zd bytes for %zu values, expected %zu", values->len, parts * count,
                     parts * bytes);
        return false;
    }
    if (!is_padded(block->values, parts, bytes, count)) {
        PyErr_SetString(PyExc_ValueError, "the bits after the last value are not zero");
        return false;
    }
    return true;
}

static bool take_blocks(struct unread *u, uint8_t *valid) {
    size_t first = 0;
    u->blocks = PyMem_Malloc((u->secrets.count + 1) * sizeof *u->blocks);
    if (!u->blocks) return PyErr_NoMemory(), false;
    for (size_t number = 0; number < u->secrets.count; number++) {
        if (!take_block(u, number, first, valid)) return false;
        first += u->blocks[number].count;
    }
    if (first == u->reading.total) return true;
    PyErr_Format(PyExc_ValueError, "the output has %zu distances, expected %zu", u->reading.total, first);
    return false;
}

static bool take_reading(struct buffers *buffers, struct unread *u, PyObject *table, PyObject *slabs, PyObject *asked,
                         PyObject *kept, PyObject *distances) {
    struct lattice_reading *r = &u->reading;
    const size_t vector = LATTICE_RANK * LATTICE_DEGREE;
    r->prime = take_primes(buffers, table);
    if (!r->prime) return false;
    const Py_buffer *positions = take(buffers, slabs, "the slabs", sizeof(long) == 8 ? "LQ" : "Q", 2, false);
    if (!positions || !has_shape(positions, "the slabs", (size_t)positions->shape[0], 2)) return false;
    const Py_buffer *out = take(buffers, distances, "the output", "H", 2, true);
    if (!out) return false;
    r->slab = positions->buf;
    r->slabs = (size_t)positions->shape[0];
    r->distances = out->buf;
    r->queries = (size_t)out->shape[0];
    r->total = (size_t)out->shape[1];
    r->asked = take_exactly(buffers, asked, "the secrets of queries", HALF_WORDS, 3, r->queries * vector, 4, false);
    if (!r->asked) return false;
    r->kept = take_exactly(buffers, kept, "what queries kept", HALF_WORDS, 4, r->queries * r->slabs * vector, 4, false);
    return r->kept != NULL;
}

static bool take_unread(struct unread *u, PyObject *secrets, PyObject *hints, PyObject *slots, PyObject *values) {
    const size_t vector = LATTICE_RANK * LATTICE_DEGREE;
    if (!take_parts(&u->secrets, secrets, "a secret", vector) ||
        !take_parts(&u->hints, hints, "hints", u->reading.slabs * vector * LATTICE_HINT_BITS / 8) ||
        !take_parts(&u->slots, slots, "slots", ANY_LENGTH) || !take_parts(&u->values, values, "values", ANY_LENGTH))
        return false;
    if (u->hints.count == u->secrets.count && u->slots.count == u->secrets.count && u->values.count == u->secrets.count)
        return true;
    PyErr_SetString(PyExc_ValueError, "there must be as many hints, slots and values as secrets");
    return false;
}

/* lattice_read(kernels, threads, primes, largest noise, slabs, out, valid, asked, kept, secrets, hints, slots, values) */
PyObject *xtrace_py_lattice_read(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_ssize_t threads;
    unsigned long long max_noise;
    PyObject *table, *slabs, *out, *valid, *asked, *kept, *secrets, *hints, *slots, *values;
    if (!PyArg_ParseTuple(args, "snOKOOOOOOOOO", &name, &threads, &table, &max_noise, &slabs, &out, &valid, &asked, &kept,
                          &secrets, &hints, &slots, &values))
        return NULL;
    struct buffers buffers = {.count = 0};
    struct unread u = {.kernels = kernels_named(name), .reading = {.max_noise = max_noise}};
    if (!u.kernels) return NULL;
    uint8_t *flags = NULL;
    const bool is_taken = take_reading(&buffers, &u, table, slabs, asked, kept, out) &&
                          take_unread(&u, secrets, hints, slots, values) &&
                          (flags = take_exactly(&buffers, valid, "the flags", "B?", 1, u.secrets.count, 1, true)) &&
                          take_blocks(&u, flags);
    if (is_taken) {
        Py_BEGIN_ALLOW_THREADS
        xtrace_in_threads(read_some, &u, u.secrets.count, READ_AT_ONCE, threads > 1 ? (size_t)threads : 1);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(u.blocks);
    release_parts(&u.secrets);
    release_parts(&u.hints);
    release_parts(&u.slots);
    release_parts(&u.values);
    release(&buffers);
    if (!is_taken) return NULL;
    Py_RETURN_NONE;
}
