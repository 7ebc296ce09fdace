/* What runs per window, on its way to a model and back: resampled, normalised, quantised, dequantised. windows.py and
 * inference/quantise.py say the same in plain Python and are the specification: every sum here is made in their order, in
 * the same single precision, so that both give the same bits (build with -ffp-contract=off).
 *
 * Part of the module _kernel: window_methods is added to it there. */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float v4 __attribute__((vector_size(16)));

/* A buffer of numbers of one kind, contiguous; 0 with a TypeError where it is anything else. */
static int view(PyObject *o, Py_buffer *v, const char *kinds, Py_ssize_t size, int writable)
{
    if (PyObject_GetBuffer(o, v, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) PyErr_Clear();
    else {
        if (v->itemsize == size && v->format && strchr(kinds, v->format[0]) && !v->format[1]) return 1;
        PyBuffer_Release(v);
    }
    PyErr_Format(PyExc_TypeError, "a contiguous array of type %s is wanted", kinds);
    return 0;
}

static int all_finite(const float *x, Py_ssize_t n)
{
    double s = 0;
    for (Py_ssize_t i = 0; i < n; i++) s += x[i];
    return isfinite(s);
}

/* Four sums side by side, blocks of sixteen from their end, as numpy's einsum makes them without fused operations. */
static float dot(const float *a, const float *b, Py_ssize_t n)
{
    v4 s = {0, 0, 0, 0}, x, y;
    Py_ssize_t j = 0;
    for (; j + 16 <= n; j += 16)
        for (int c = 12; c >= 0; c -= 4) {
            memcpy(&x, a + j + c, 16);
            memcpy(&y, b + j + c, 16);
            s = x * y + s;
        }
    for (; j + 4 <= n; j += 4) {
        memcpy(&x, a + j, 16);
        memcpy(&y, b + j, 16);
        s = x * y + s;
    }
    for (Py_ssize_t l = 0; j + l < n; l++) s[l] = a[j + l] * b[j + l] + s[l];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* resample(x, index, weights, out): out[i] = sum of x[index[i, j]] * weights[i, j]; False where x is not finite. */
static PyObject *resample(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer x, index, weights, out;
    PyObject *answer = NULL;
    (void)self;
    if (nargs != 4) { PyErr_SetString(PyExc_TypeError, "resample(x, index, weights, out)"); return NULL; }
    if (!view(args[0], &x, "f", 4, 0)) return NULL;
    if (!view(args[1], &index, "i", 4, 0)) goto no_index;
    if (!view(args[2], &weights, "f", 4, 0)) goto no_weights;
    if (!view(args[3], &out, "f", 4, 1)) goto no_out;
    const Py_ssize_t n = x.len / 4, rows = out.len / 4, taps = rows ? weights.len / 4 / rows : 0;
    if (index.len != weights.len || weights.len != rows * taps * 4) {
        PyErr_SetString(PyExc_ValueError, "index, weights and out do not fit");
        goto done;
    }
    if (!all_finite(x.buf, n)) { answer = Py_NewRef(Py_False); goto done; }
    const float *from = x.buf, *w = weights.buf;
    const int32_t *at = index.buf;
    float *to = out.buf, *gathered = PyMem_Malloc((size_t)(taps + 1) * 4);
    if (!gathered) { PyErr_NoMemory(); goto done; }
    for (Py_ssize_t i = 0; taps && i < rows; i++, at += taps, w += taps) {
        const float *row;
        /* Indices ascend; one after the other unless they stop at the edge. */
        if (at[0] < 0 || at[taps - 1] >= n || at[taps - 1] - at[0] != taps - 1) {
            for (Py_ssize_t j = 0; j < taps; j++) {
                if (at[j] < 0 || at[j] >= n) {
                    PyErr_SetString(PyExc_ValueError, "an index leads out of x");
                    goto freed;
                }
                gathered[j] = from[at[j]];
            }
            row = gathered;
        } else row = from + at[0];
        to[i] = dot(row, w, taps);
    }
    answer = Py_NewRef(Py_True);
freed:
    PyMem_Free(gathered);
done:
    PyBuffer_Release(&out);
no_out:
    PyBuffer_Release(&weights);
no_weights:
    PyBuffer_Release(&index);
no_index:
    PyBuffer_Release(&x);
    return answer;
}

/* numpy's sum of a contiguous row: eight sums side by side, halves of what is longer than 128. */
static float sum(const float *a, Py_ssize_t n)
{
    if (n < 8) {
        float s = 0;
        for (Py_ssize_t i = 0; i < n; i++) s += a[i];
        return s;
    }
    if (n <= 128) {
        float r[8];
        Py_ssize_t i;
        memcpy(r, a, sizeof r);
        for (i = 8; i < n - n % 8; i += 8)
            for (int l = 0; l < 8; l++) r[l] += a[i + l];
        float s = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        for (; i < n; i++) s += a[i];
        return s;
    }
    Py_ssize_t half = n / 2;
    half -= half % 8;
    return sum(a, half) + sum(a + half, n - half);
}

static float mean(const float *a, Py_ssize_t n) { return sum(a, n) / (float)n; }

/* The sum of squared distances from m, in the order of sum(). */
static float squares(const float *a, Py_ssize_t n, float m)
{
    if (n <= 128) {
        float d[128];
        for (Py_ssize_t i = 0; i < n; i++) d[i] = (a[i] - m) * (a[i] - m);
        return sum(d, n);
    }
    Py_ssize_t half = n / 2;
    half -= half % 8;
    return squares(a, half, m) + squares(a + half, n - half, m);
}

static float deviation(const float *a, Py_ssize_t n) { return sqrtf(squares(a, n, mean(a, n)) / (float)n); }

/* normalise(x, how, usual, out): how is zscore (0), minmax (1) or usual (2); usual an array or None. */
static PyObject *normalise(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer x, usual, out;
    (void)self;
    if (nargs != 4) { PyErr_SetString(PyExc_TypeError, "normalise(x, how, usual, out)"); return NULL; }
    const long how = PyLong_AsLong(args[1]);
    if (how == -1 && PyErr_Occurred()) return NULL;
    if (!view(args[0], &x, "f", 4, 0)) return NULL;
    if (!view(args[3], &out, "f", 4, 1)) { PyBuffer_Release(&x); return NULL; }
    const Py_ssize_t n = x.len / 4;
    const float *a = x.buf;
    float *to = out.buf, spread, centre;
    if (out.len != x.len || n < 1) {
        PyErr_SetString(PyExc_ValueError, "x and out do not fit");
        goto failed;
    }
    if (how == 1) {
        float most = centre = a[0];
        for (Py_ssize_t i = 1; i < n; i++) {
            if (a[i] < centre) centre = a[i];
            if (a[i] > most) most = a[i];
        }
        spread = most - centre;
    } else {
        if (how == 2 && args[2] != Py_None) {
            if (!view(args[2], &usual, "f", 4, 0)) goto failed;
            spread = deviation(usual.buf, usual.len / 4);
            PyBuffer_Release(&usual);
            if (!(spread > 0)) spread = deviation(a, n);
        } else spread = deviation(a, n);
        centre = mean(a, n);
    }
    if (spread > 0)
        for (Py_ssize_t i = 0; i < n; i++) to[i] = (a[i] - centre) / spread;
    else memset(to, 0, (size_t)out.len);
    PyBuffer_Release(&out);
    PyBuffer_Release(&x);
    Py_RETURN_NONE;
failed:
    PyBuffer_Release(&out);
    PyBuffer_Release(&x);
    return NULL;
}

/* mean_rows(rows, many, out): the mean of the first rows, added one after the other. */
static PyObject *mean_rows(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer rows, out;
    (void)self;
    if (nargs != 3) { PyErr_SetString(PyExc_TypeError, "mean_rows(rows, many, out)"); return NULL; }
    const Py_ssize_t many = PyLong_AsSsize_t(args[1]);
    if (many == -1 && PyErr_Occurred()) return NULL;
    if (!view(args[0], &rows, "f", 4, 0)) return NULL;
    if (!view(args[2], &out, "f", 4, 1)) { PyBuffer_Release(&rows); return NULL; }
    const int fits = many > 0 && many * out.len <= rows.len;
    if (fits) {
        const Py_ssize_t n = out.len / 4;
        const float *a = rows.buf;
        float *to = out.buf;
        memcpy(to, a, (size_t)out.len);
        for (Py_ssize_t r = 1; r < many; r++)
            for (Py_ssize_t i = 0; i < n; i++) to[i] += a[r * n + i];
        if (n == 1) to[0] = sum(a, many); /* numpy sees one row then */
        for (Py_ssize_t i = 0; i < n; i++) to[i] /= (float)many;
    } else PyErr_SetString(PyExc_ValueError, "rows and out do not fit");
    PyBuffer_Release(&out);
    PyBuffer_Release(&rows);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* quantise(x, inverse, zero_point, out): out = round(x * inverse) + zero_point, held within its type; False where a value
 * is no number. */
static PyObject *quantise(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer x, out;
    (void)self;
    if (nargs != 4) { PyErr_SetString(PyExc_TypeError, "quantise(x, inverse, zero_point, out)"); return NULL; }
    const float inverse = (float)PyFloat_AsDouble(args[1]);
    const long zero = PyLong_AsLong(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (!view(args[0], &x, "f", 4, 0)) return NULL;
    if (!view(args[3], &out, "bB", 1, 1)) { PyBuffer_Release(&x); return NULL; }
    const Py_ssize_t n = x.len / 4;
    if (out.len != n) {
        PyErr_Format(PyExc_ValueError, "an input of %zd numbers, %zd are wanted", n, out.len);
        PyBuffer_Release(&out);
        PyBuffer_Release(&x);
        return NULL;
    }
    const int low = out.format[0] == 'b' ? -128 : 0, high = low + 255;
    const float least = (float)(low - zero), most = (float)(high - zero);
    const float *a = x.buf;
    unsigned char *to = out.buf;
    int unknown = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        float v = a[i] * inverse;
        unknown |= v != v;
        v = v > least ? v : least; /* a value that is no number lands here too; nobody sees it */
        v = v < most ? v : most;
        v = (v + 12582912.0f) - 12582912.0f; /* to the nearest whole number, ties to the even one: 1.5 * 2^23 */
        to[i] = (unsigned char)(int)(v + (float)zero);
    }
    PyBuffer_Release(&out);
    PyBuffer_Release(&x);
    return PyBool_FromLong(!unknown);
}

/* counts(payload, begin, factors, out): little-endian int16 from begin on, a row of channels for each sample; out has a row for each
 * channel, factors its scale and offset. -32768 is no value. */
static PyObject *counts(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer raw, factors, out;
    (void)self;
    if (nargs != 4) { PyErr_SetString(PyExc_TypeError, "counts(payload, begin, factors, out)"); return NULL; }
    const Py_ssize_t begin = PyLong_AsSsize_t(args[1]);
    if (begin == -1 && PyErr_Occurred()) return NULL;
    if (PyObject_GetBuffer(args[0], &raw, PyBUF_SIMPLE) < 0) return NULL;
    if (!view(args[2], &factors, "d", 8, 0)) { PyBuffer_Release(&raw); return NULL; }
    if (!view(args[3], &out, "f", 4, 1)) { PyBuffer_Release(&factors); PyBuffer_Release(&raw); return NULL; }
    const Py_ssize_t channels = factors.len / 16, samples = channels ? out.len / 4 / channels : 0;
    const int fits = samples > 0 && begin >= 0 && out.len == samples * channels * 4 && begin <= raw.len && raw.len - begin == samples * channels * 2;
    for (Py_ssize_t c = 0; fits && c < channels; c++) {
        const unsigned char *from = (const unsigned char *)raw.buf + begin + 2 * c;
        const double scale = ((const double *)factors.buf)[2 * c], offset = ((const double *)factors.buf)[2 * c + 1];
        float *to = (float *)out.buf + c * samples;
        for (Py_ssize_t i = 0; i < samples; i++, from += 2 * channels) {
            const int count = (int16_t)(uint16_t)(from[0] | from[1] << 8);
            const float value = (float)((double)count * scale + offset);
            to[i] = count == -32768 || !isfinite(value) ? NAN : value; /* beyond single precision is no value */
        }
    }
    if (!fits) PyErr_SetString(PyExc_ValueError, "counts: the arguments do not fit");
    PyBuffer_Release(&out);
    PyBuffer_Release(&factors);
    PyBuffer_Release(&raw);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* dequantise(raw, zero_point, scale, out): out = (raw - zero_point) * scale. */
static PyObject *dequantise(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer raw, out;
    (void)self;
    if (nargs != 4) { PyErr_SetString(PyExc_TypeError, "dequantise(raw, zero_point, scale, out)"); return NULL; }
    const float zero = (float)PyLong_AsLong(args[1]), scale = (float)PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (!view(args[0], &raw, "bB", 1, 0)) return NULL;
    if (!view(args[3], &out, "f", 4, 1)) { PyBuffer_Release(&raw); return NULL; }
    const Py_ssize_t n = out.len / 4;
    const int fits = raw.len >= n;
    float *to = out.buf;
    if (!fits) PyErr_SetString(PyExc_ValueError, "raw and out do not fit");
    else if (raw.format[0] == 'b')
        for (Py_ssize_t i = 0; i < n; i++) to[i] = ((float)((const signed char *)raw.buf)[i] - zero) * scale;
    else
        for (Py_ssize_t i = 0; i < n; i++) to[i] = ((float)((const unsigned char *)raw.buf)[i] - zero) * scale;
    PyBuffer_Release(&out);
    PyBuffer_Release(&raw);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* The waves of usual_beat.py: where they lie on its grid of WAVES samples. */
enum { WAVES = 63, P_FROM = 12, P_LONG = 18, QRS_FROM = 27, QRS_LONG = 20, T_FROM = 47, T_LONG = 16, SHIFT_MOST = 3, NUMBERS = 14 };
enum { F_QRS = WAVES, F_T = F_QRS + QRS_LONG, F_P = F_T + T_LONG, F_LONG = F_P + P_LONG };
enum { N_QRS, N_T, N_P, N_SLOPE, N_LONG };
static const double TINY = 1e-6;

/* usual_beat._dot: products in single precision, added up in double, one after the other. */
static float dot_in_order(const float *a, const float *b, Py_ssize_t n)
{
    double s = 0;
    for (Py_ssize_t i = 0; i < n; i++) s += (double)(a[i] * b[i]);
    return (float)s;
}

static double norm_of(const float *a, Py_ssize_t n)
{
    const double norm = sqrt((double)dot_in_order(a, a, n));
    return norm > TINY ? norm : TINY;
}

static double norm_between(const float *a, const float *b, Py_ssize_t n)
{
    float d[WAVES];
    for (Py_ssize_t i = 0; i < n; i++) d[i] = a[i] - b[i];
    return norm_of(d, n);
}

static void without_mean(const float *a, Py_ssize_t n, float *out)
{
    const float m = mean(a, n);
    for (Py_ssize_t i = 0; i < n; i++) out[i] = a[i] - m;
}

static void levelled(const float *a, const float *ramp, float *out)
{
    without_mean(a, P_LONG, out);
    const float slope = dot_in_order(out, ramp, P_LONG);
    for (int i = 0; i < P_LONG; i++) out[i] = out[i] - ramp[i] * slope;
}

/* waves(x, centre, ramp, f, norms): x (without its mean, if centre), its QRS, T and P wave, one after the other in f; their norms. */
static PyObject *waves(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer x, ramp, f, norms;
    (void)self;
    if (nargs != 5) { PyErr_SetString(PyExc_TypeError, "waves(x, centre, ramp, f, norms)"); return NULL; }
    const int centre = PyObject_IsTrue(args[1]);
    if (centre < 0 || !view(args[0], &x, "f", 4, 0)) return NULL;
    if (!view(args[2], &ramp, "f", 4, 0)) goto no_ramp;
    if (!view(args[3], &f, "f", 4, 1)) goto no_f;
    if (!view(args[4], &norms, "d", 8, 1)) goto no_norms;
    const int fits = x.len == WAVES * 4 && ramp.len == P_LONG * 4 && f.len == F_LONG * 4 && norms.len == N_LONG * 8;
    if (fits) {
        float *to = f.buf, slope = 0;
        double *n = norms.buf;
        if (centre) without_mean(x.buf, WAVES, to);
        else memcpy(to, x.buf, WAVES * 4);
        without_mean(to + QRS_FROM, QRS_LONG, to + F_QRS);
        without_mean(to + T_FROM, T_LONG, to + F_T);
        levelled(to + P_FROM, ramp.buf, to + F_P);
        n[N_QRS] = norm_of(to + F_QRS, QRS_LONG);
        n[N_T] = norm_of(to + F_T, T_LONG);
        n[N_P] = norm_of(to + F_P, P_LONG);
        for (int i = QRS_FROM + 1; i < QRS_FROM + QRS_LONG; i++) {
            const float step = fabsf(to[i] - to[i - 1]);
            if (step > slope) slope = step;
        }
        n[N_SLOPE] = (double)slope > TINY ? (double)slope : TINY;
    } else PyErr_SetString(PyExc_ValueError, "waves: the arguments do not fit");
    PyBuffer_Release(&norms);
    PyBuffer_Release(&f);
    PyBuffer_Release(&ramp);
    PyBuffer_Release(&x);
    if (!fits) return NULL;
    Py_RETURN_NONE;
no_norms:
    PyBuffer_Release(&f);
no_f:
    PyBuffer_Release(&ramp);
no_ramp:
    PyBuffer_Release(&x);
    return NULL;
}

static double at_most(double x, double most) { return x < most ? x : most; }

/* The usual P wave at the best of all places up to SHIFT_MOST samples away. */
static double best_correlation(const float *x, const float *usual, double norm, const float *ramp)
{
    float level[P_LONG], squares_[P_LONG], best = 0;
    for (int shift = -SHIFT_MOST; shift <= SHIFT_MOST; shift++) {
        levelled(x + P_FROM + shift, ramp, level);
        for (int i = 0; i < P_LONG; i++) squares_[i] = level[i] * level[i];
        float size = sqrtf(sum(squares_, P_LONG));
        if (!(size > (float)TINY)) size = (float)TINY;
        const float agreement = dot_in_order(level, usual, P_LONG) / size;
        if (shift == -SHIFT_MOST || agreement > best) best = agreement;
    }
    return (double)best / norm;
}

/* compared(f, norms, usual_f, usual_norms, agreed, ramp, out): the numbers of usual_beat.SHAPE_FEATURES. */
static PyObject *compared(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    static const char *kinds[] = {"f", "d", "f", "d", "f", "f", "f"};
    static const Py_ssize_t lengths[] = {F_LONG, N_LONG, F_LONG, N_LONG, 2, P_LONG, NUMBERS};
    Py_buffer v[7];
    int many = 0, fits = 1;
    (void)self;
    if (nargs != 7) { PyErr_SetString(PyExc_TypeError, "compared(f, norms, usual_f, usual_norms, agreed, ramp, out)"); return NULL; }
    for (; many < 7; many++) {
        const Py_ssize_t size = kinds[many][0] == 'd' ? 8 : 4;
        if (!view(args[many], &v[many], kinds[many], size, many == 6)) break;
        fits = fits && v[many].len == lengths[many] * size;
    }
    if (many == 7 && fits) {
        const float *w = v[0].buf, *u = v[2].buf, *agreed = v[4].buf, *ramp = v[5].buf;
        const double *n = v[1].buf, *un = v[3].buf, scale = un[N_QRS];
        const double p = (double)dot_in_order(w + F_P, u + F_P, P_LONG);
        float *out = v[6].buf;
        out[0] = (float)((double)dot_in_order(w + F_QRS, u + F_QRS, QRS_LONG) / (n[N_QRS] * scale));
        out[1] = (float)at_most(norm_between(w + F_QRS, u + F_QRS, QRS_LONG) / scale, 4.0);
        out[2] = (float)log(n[N_QRS] / scale);
        out[3] = (float)log(n[N_SLOPE] / un[N_SLOPE]);
        out[4] = agreed[0];
        out[5] = (float)((double)dot_in_order(w + F_T, u + F_T, T_LONG) / (n[N_T] * un[N_T]));
        out[6] = (float)at_most(norm_between(w + F_T, u + F_T, T_LONG) / scale, 4.0);
        out[7] = (float)(p / (n[N_P] * un[N_P]));
        out[8] = (float)best_correlation(w, u + F_P, un[N_P], ramp);
        out[9] = (float)at_most(norm_between(w + F_P, u + F_P, P_LONG) / un[N_P], 4.0);
        const double gain = at_most(p / (un[N_P] * un[N_P]), 4.0);
        out[10] = (float)(gain > -4.0 ? gain : -4.0);
        out[11] = (float)log(n[N_P] / un[N_P]);
        out[12] = (float)at_most(un[N_P] / scale, 4.0);
        out[13] = agreed[1];
    } else if (many == 7) PyErr_SetString(PyExc_ValueError, "compared: the arguments do not fit");
    fits = fits && many == 7;
    while (many--) PyBuffer_Release(&v[many]);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

__attribute__((visibility("hidden"))) PyMethodDef window_methods[] = {
    {"resample", (PyCFunction)(void (*)(void))resample, METH_FASTCALL, NULL},
    {"normalise", (PyCFunction)(void (*)(void))normalise, METH_FASTCALL, NULL},
    {"mean_rows", (PyCFunction)(void (*)(void))mean_rows, METH_FASTCALL, NULL},
    {"quantise", (PyCFunction)(void (*)(void))quantise, METH_FASTCALL, NULL},
    {"counts", (PyCFunction)(void (*)(void))counts, METH_FASTCALL, NULL},
    {"dequantise", (PyCFunction)(void (*)(void))dequantise, METH_FASTCALL, NULL},
    {"waves", (PyCFunction)(void (*)(void))waves, METH_FASTCALL, NULL},
    {"compared", (PyCFunction)(void (*)(void))compared, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};
