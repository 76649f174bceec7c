/* Arrays as arguments: what the functions of the module check before a kernel sees it. Limited API, so one build serves
 * every Python from 3.11 on.
 */
#ifndef XTRACE_ARGUMENTS_H
#define XTRACE_ARGUMENTS_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { MAX_BUFFERS = 12 };

/* The buffers of one call, released together. */
struct buffers {
    Py_buffer views[MAX_BUFFERS];
    int count;
};

static inline void release(struct buffers *buffers) {
    while (buffers->count > 0) PyBuffer_Release(&buffers->views[--buffers->count]);
}

/* A contiguous array; formats are those that are as good, for instance "LQ" for 64-bit words. NULL with an exception. */
static inline Py_buffer *take(struct buffers *buffers, PyObject *object, const char *name, const char *formats, int dimensions,
                       bool writable) {
    Py_buffer *view = &buffers->views[buffers->count];
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) < 0) return NULL;
    buffers->count++;
    const char *format = view->format ? view->format : "B";
    if (strlen(format) != 1 || !strchr(formats, format[0]) || view->ndim != dimensions) {
        PyErr_Format(PyExc_TypeError, "%s is an array of format %s with %d dimensions, expected one of \"%s\" with %d",
                     name, format, view->ndim, formats, dimensions);
        return NULL;
    }
    return view;
}

static inline Py_buffer *take_rows(struct buffers *buffers, PyObject *object, const char *name, bool writable) {
    Py_buffer *view = take(buffers, object, name, "B", 2, writable);
    if (view && view->shape[1] == 0) {
        PyErr_Format(PyExc_ValueError, "%s has rows of 0 bytes", name);
        return NULL;
    }
    return view;
}

static inline bool has_shape(const Py_buffer *view, const char *name, size_t rows, size_t width) {
    if ((size_t)view->shape[0] == rows && (size_t)view->shape[1] == width) return true;
    PyErr_Format(PyExc_ValueError, "%s has shape (%zd, %zd), expected (%zu, %zu)", name, view->shape[0], view->shape[1],
                 rows, width);
    return false;
}

/* 64-bit words, exactly so many. */
static inline const uint64_t *take_words(struct buffers *buffers, PyObject *object, const char *name, size_t words) {
    const Py_buffer *view = take(buffers, object, name, sizeof(long) == 8 ? "LQ" : "Q", 1, false);
    if (!view) return NULL;
    if ((size_t)view->shape[0] != words) {
        PyErr_Format(PyExc_ValueError, "%s has %zd words, expected %zu", name, view->shape[0], words);
        return NULL;
    }
    return view->buf;
}

static inline PyObject *refuse(struct buffers *buffers) {
    release(buffers);
    return NULL;
}

/* lattice_module.c */
PyObject *xtrace_py_lattice_kernels(PyObject *module, PyObject *nothing);
PyObject *xtrace_py_lattice_transform(PyObject *module, PyObject *args);
PyObject *xtrace_py_lattice_values(PyObject *module, PyObject *args);
PyObject *xtrace_py_lattice_masked(PyObject *module, PyObject *args);
PyObject *xtrace_py_lattice_read(PyObject *module, PyObject *args);

#endif
