/* What runs per half second (quality), per second (texture) and per beat (rhythm) of an ECG lead. measure_reference.py says the same in
 * plain Python and is the specification: every sum here is made in numpy's order, in double precision, so that both give the same
 * bits (build with -ffp-contract=off). Fourier transforms stay numpy's.
 *
 * Part of the module _kernel: measure_methods is added to it there. */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <math.h>
#include <string.h>


typedef Py_ssize_t idx;

/* Contiguous doubles (or, with complex numbers, pairs of them), one buffer for each argument from the first on; 0 with an exception. */
static int views(PyObject *const *args, int many, const char **kinds, Py_buffer *v)
{
    for (int i = 0; i < many; i++) {
        if (PyObject_GetBuffer(args[i], &v[i], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (kinds[i][0] == 'w' ? PyBUF_WRITABLE : 0)) >= 0) {
            if (v[i].format && !strcmp(v[i].format, kinds[i] + 1)) continue;
            PyBuffer_Release(&v[i]);
        } else PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "a contiguous array of type %s is wanted", kinds[i] + 1);
        while (i--) PyBuffer_Release(&v[i]);
        return 0;
    }
    return 1;
}

static void release(Py_buffer *v, int many) { while (many--) PyBuffer_Release(&v[many]); }

/* Whole numbers from the arguments; 0 with an exception. */
static int wholes(PyObject *const *args, int many, idx *to)
{
    for (int i = 0; i < many; i++) {
        to[i] = PyLong_AsSsize_t(args[i]);
        if (to[i] == -1 && PyErr_Occurred()) return 0;
    }
    return 1;
}

static PyObject *unfit(const char *what)
{
    PyErr_Format(PyExc_ValueError, "%s: the arguments do not fit", what);
    return NULL;
}

/* numpy's sum of a contiguous row: eight sums side by side, halves of what is longer than 128. */
static double sum(const double *a, idx n)
{
    if (n < 8) {
        double s = 0;
        for (idx i = 0; i < n; i++) s += a[i];
        return s;
    }
    if (n <= 128) {
        double r[8];
        idx i;
        memcpy(r, a, sizeof r);
        for (i = 8; i < n - n % 8; i += 8)
            for (int l = 0; l < 8; l++) r[l] += a[i + l];
        double s = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        for (; i < n; i++) s += a[i];
        return s;
    }
    idx half = n / 2;
    half -= half % 8;
    return sum(a, half) + sum(a + half, n - half);
}

static void extent(const double *a, idx n, double *low, double *high)
{
    double least = a[0], most = a[0];
    int unknown = 0;
    for (idx i = 0; i < n; i++) {
        unknown |= a[i] != a[i];
        if (a[i] < least) least = a[i];
        if (a[i] > most) most = a[i];
    }
    *low = unknown ? NAN : least;
    *high = unknown ? NAN : most;
}

static void running(const double *x, idx n, double *sums)
{
    double s = sums[0] = x[0];
    for (idx i = 1; i < n; i++) sums[i] = s += x[i];
}

/* quality_grid.moving_mean: n - width + 1 values. */
static void moving_mean(const double *sums, idx n, idx width, double *out)
{
    const double part = 1.0 / (double)width;
    for (idx i = 0; i + width <= n; i++) out[i] = sums[width - 1 + i] * part;
    for (idx i = 1; i + width <= n; i++) out[i] -= sums[i - 1] * part;
}

/* extents(w, last) -> lowest, highest, of the last ones lowest, highest, and how many values are the highest, the lowest */
static PyObject *extents(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd"};
    Py_buffer v[1];
    idx last, highest = 0, lowest = 0;
    double low, high, low2, high2;
    (void)self;
    if (nargs != 2) return unfit("extents(w, last)");
    if (!wholes(args + 1, 1, &last) || !views(args, 1, kinds, v)) return NULL;
    const double *w = v[0].buf;
    const idx n = v[0].len / 8;
    if (last < 1 || last > n) { release(v, 1); return unfit("extents"); }
    extent(w, n, &low, &high);
    extent(w + n - last, last, &low2, &high2);
    for (idx i = 0; i < n; i++) {
        highest += w[i] >= high;
        lowest += w[i] <= low;
    }
    release(v, 1);
    return Py_BuildValue("ddddnn", low, high, low2, high2, highest, lowest);
}

/* tapered(w, taper, out): out = (w - mean) * taper */
static PyObject *tapered(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "rd", "wd"};
    Py_buffer v[3];
    (void)self;
    if (nargs != 3) return unfit("tapered(w, taper, out)");
    if (!views(args, 3, kinds, v)) return NULL;
    const idx n = v[0].len / 8;
    const int fits = n > 0 && v[1].len == v[0].len && v[2].len == v[0].len;
    if (fits) {
        const double *w = v[0].buf, *taper = v[1].buf, mean = sum(w, n) / (double)n;
        double *out = v[2].buf;
        for (idx i = 0; i < n; i++) out[i] = (w[i] - mean) * taper[i];
    }
    release(v, 3);
    if (!fits) return unfit("tapered");
    Py_RETURN_NONE;
}

static double quiet_part(double *x, idx n, idx tenth, double *energy)
{
    const idx half = n / tenth / 2, kth = half * 3 / 10;
    double worst = 0;
    x += n - 2 * half * tenth;
    for (idx i = 0; i < 2 * half * tenth; i++) x[i] = x[i] * x[i];
    for (int part = 0; part < 2; part++) {
        for (idx k = 0; k < half; k++) { /* sorted as they come */
            const double e = sum(x + (part * half + k) * tenth, tenth);
            idx at = k;
            for (; at > 0 && energy[at - 1] > e; at--) energy[at] = energy[at - 1];
            energy[at] = e;
        }
        if (part == 0 || energy[kth] > worst) worst = energy[kth];
    }
    return sqrt(worst / (double)tenth);
}

/* between_beats(w, narrow, wide, piece, tenth, slow, burst) -> fast, band, bursts, by how much the baseline moves */
static PyObject *between_beats(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd"};
    Py_buffer v[1];
    idx given[5];
    (void)self;
    if (nargs != 7) return unfit("between_beats(w, narrow, wide, piece, tenth, slow, burst)");
    const double burst = PyFloat_AsDouble(args[6]);
    if (PyErr_Occurred() || !wholes(args + 1, 5, given) || !views(args, 1, kinds, v)) return NULL;
    const idx narrow = given[0], wide = given[1], piece = given[2], tenth = given[3], slow = given[4], n = v[0].len / 8;
    if (narrow < 1 || wide < narrow || slow < 1 || piece < 1 || tenth < 1 || n < slow || n - wide + 1 < 2 * tenth || n - narrow + 1 < piece) {
        release(v, 1);
        return unfit("between_beats");
    }
    double *room = PyMem_Malloc((size_t)n * 5 * sizeof(double));
    if (!room) { release(v, 1); return PyErr_NoMemory(); }
    const double *w = v[0].buf;
    double *sums = room, *smooth = sums + n, *fast = smooth + n, *band = fast + n, *other = band + n, low, high;
    running(w, n, sums);
    moving_mean(sums, n, narrow, smooth);
    const idx fasts = n - narrow + 1, middle = (narrow - 1) / 2, bands = n - wide + 1, shift = (wide - narrow) / 2, pieces = fasts / piece;
    for (idx i = 0; i < fasts; i++) fast[i] = w[middle + i] - smooth[i];
    moving_mean(sums, n, wide, other);
    for (idx i = 0; i < bands; i++) band[i] = smooth[shift + i] - other[i];
    moving_mean(sums, n, slow, other);
    extent(other, n - slow + 1, &low, &high);
    for (idx i = 0; i < pieces * piece; i++) other[i] = fast[i] * fast[i];
    const double limit = burst * burst * (double)piece;
    idx bursts = 0;
    for (idx i = 0; i < pieces; i++) bursts += sum(other + i * piece, piece) > limit;
    const double fast_quiet = quiet_part(fast, fasts, tenth, other), band_quiet = quiet_part(band, bands, tenth, other);
    PyMem_Free(room);
    release(v, 1);
    return Py_BuildValue("dddd", fast_quiet, band_quiet, (double)bursts / (double)pieces, high - low);
}

/* lines(spectrum, places, band_start, band_stop, slow_start, slow_stop, reach, least) -> for each of the mains the power in its line and
 * around it, then the share of the slow band around its peak; places: of each mains line's slice, below and above, first and end. */
static PyObject *lines(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rZd", "rl"};
    Py_buffer v[2];
    idx given[6];
    (void)self;
    if (nargs != 8) return unfit("lines(spectrum, places, band_start, band_stop, slow_start, slow_stop, reach, least)");
    if (!wholes(args + 2, 6, given) || !views(args, 2, kinds, v)) return NULL;
    const idx n = v[0].len / 16, band = given[0], band_end = given[1], slow = given[2], slow_end = given[3], reach = given[4],
              least = given[5], mains = v[1].len / (idx)sizeof(long) / 6;
    const long *at = v[1].buf;
    int fits = band >= 0 && band < band_end && band_end <= n && slow >= 0 && slow < slow_end && slow_end <= n && reach >= 0;
    for (idx i = 0; i < mains * 3; i++) fits = fits && at[2 * i] >= 0 && at[2 * i] <= at[2 * i + 1] && at[2 * i + 1] <= n;
    double *power = fits ? PyMem_Malloc((size_t)n * sizeof(double)) : NULL;
    if (!power) { release(v, 2); return fits ? PyErr_NoMemory() : unfit("lines"); }
    const double *z = v[0].buf;
    for (idx i = 0; i < n; i++) power[i] = z[2 * i] * z[2 * i] + z[2 * i + 1] * z[2 * i + 1];
    PyObject *answer = PyList_New(0);
    for (idx m = 0; answer && m < mains; m++) {
        double s[3];
        for (int part = 0; part < 3; part++) s[part] = sum(power + at[6 * m + 2 * part], at[6 * m + 2 * part + 1] - at[6 * m + 2 * part]);
        PyObject *pair = Py_BuildValue("dd", s[0], s[1] + s[2]);
        if (!pair || PyList_Append(answer, pair) < 0) Py_CLEAR(answer);
        Py_XDECREF(pair);
    }
    const double total = sum(power + slow, slow_end - slow);
    double share = 0;
    idx peak = band;
    for (idx i = band; i < band_end; i++) if (power[i] > power[peak]) peak = i;
    if (total > 0 && peak >= least) {
        const idx first = peak - reach > slow ? peak - reach : slow, first_end = peak + reach + 1 < n ? peak + reach + 1 : n;
        const idx second = peak + reach + 1 > 2 * peak - reach ? peak + reach + 1 : 2 * peak - reach;
        const idx second_end = slow_end < 2 * peak + reach + 1 ? slow_end : 2 * peak + reach + 1;
        share = (sum(power + first, first_end - first) + (second < second_end ? sum(power + second, second_end - second) : 0)) / total;
    }
    PyMem_Free(power);
    release(v, 2);
    return answer ? Py_BuildValue("(Nd)", answer, share) : NULL;
}

/* slope_energy(w, out, smooth, span, sum) -> highest; out holds n - smooth - span - sum + 2 values. */
static PyObject *slope_energy(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "wd"};
    Py_buffer v[2];
    idx given[3];
    (void)self;
    if (nargs != 5) return unfit("slope_energy(w, out, smooth, span, sum)");
    if (!wholes(args + 2, 3, given) || !views(args, 2, kinds, v)) return NULL;
    const idx n = v[0].len / 8, smooth = given[0], span = given[1], width = given[2], slopes = n - smooth + 1 - span, many = slopes - width + 1;
    double *room = NULL, low, high = 0;
    if (smooth < 1 || span < 1 || width < 1 || many < 1 || v[1].len != many * 8) unfit("slope_energy");
    else if (!(room = PyMem_Malloc((size_t)n * 2 * sizeof(double)))) PyErr_NoMemory();
    else {
        double *sums = room, *level = room + n, *out = v[1].buf;
        running(v[0].buf, n, sums);
        moving_mean(sums, n, smooth, level);
        for (idx i = 0; i < slopes; i++) level[i] = (level[i + span] - level[i]) * (level[i + span] - level[i]);
        running(level, slopes, sums);
        moving_mean(sums, slopes, width, out);
        extent(out, many, &low, &high);
        PyMem_Free(room);
    }
    release(v, 2);
    return room ? PyFloat_FromDouble(high) : NULL;
}

/* peaks(x, threshold, first) -> where each stretch above the threshold that ends beyond ``first`` is highest */
static PyObject *peaks(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd"};
    Py_buffer v[1];
    idx first;
    (void)self;
    if (nargs != 3) return unfit("peaks(x, threshold, first)");
    const double threshold = PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred() || !wholes(args + 2, 1, &first) || !views(args, 1, kinds, v)) return NULL;
    const double *x = v[0].buf;
    const idx n = v[0].len / 8;
    PyObject *answer = PyList_New(0);
    for (idx i = 0; answer && i < n; i++) {
        if (!(x[i] > threshold)) continue;
        idx top = i;
        for (; i < n && x[i] > threshold; i++) if (x[i] > x[top]) top = i;
        if (i <= first) continue;
        PyObject *at = PyLong_FromSsize_t(top);
        if (!at || PyList_Append(answer, at) < 0) Py_CLEAR(answer);
        Py_XDECREF(at);
    }
    release(v, 1);
    return answer;
}

/* close_pairs(rr, tolerance, least) -> pairs, pairs of pairs, tolerance */
static PyObject *close_pairs(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd"};
    Py_buffer v[1];
    idx least, one = 0, two = 0;
    (void)self;
    if (nargs != 3) return unfit("close_pairs(rr, tolerance, least)");
    double tolerance = PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred() || !wholes(args + 2, 1, &least) || !views(args, 1, kinds, v)) return NULL;
    const double *rr = v[0].buf;
    const idx n = v[0].len / 8;
    for (int turn = 0; turn < 12; turn++) {
        one = two = 0;
        for (idx i = 0; i < n; i++)
            for (idx j = i + 1; j < n; j++) {
                const int close = fabs(rr[i] - rr[j]) < tolerance;
                one += close;
                two += close && j + 1 < n && fabs(rr[i + 1] - rr[j + 1]) < tolerance;
            }
        if (two >= least) break;
        tolerance *= 1.25;
    }
    release(v, 1);
    return Py_BuildValue("nnd", one, two, tolerance);
}

/* high_pass(x, state, out, b0, a1, a2); state: x1, x2, y1, y2 */
static PyObject *high_pass(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "wd", "wd"};
    Py_buffer v[3];
    (void)self;
    if (nargs != 6) return unfit("high_pass(x, state, out, b0, a1, a2)");
    const double b0 = PyFloat_AsDouble(args[3]), a1 = PyFloat_AsDouble(args[4]), a2 = PyFloat_AsDouble(args[5]);
    if (PyErr_Occurred() || !views(args, 3, kinds, v)) return NULL;
    const int fits = v[1].len == 4 * 8 && v[2].len == v[0].len;
    if (fits) {
        const double *x = v[0].buf;
        double *s = v[1].buf, *out = v[2].buf, x1 = s[0], x2 = s[1], y1 = s[2], y2 = s[3];
        for (idx i = 0; i < v[0].len / 8; i++) {
            const double y = b0 * (x[i] - x1 - x1 + x2) - a1 * y1 - a2 * y2;
            x2 = x1, x1 = x[i], y2 = y1, y1 = y;
            out[i] = y;
        }
        s[0] = x1, s[1] = x2, s[2] = y1, s[3] = y2;
    }
    release(v, 3);
    if (!fits) return unfit("high_pass");
    Py_RETURN_NONE;
}

/* likeness(y, usual, out, least) of the stretches that end at the last values, as many as out has; least: of their norm */
static PyObject *likeness(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "rd", "wd"};
    Py_buffer v[3];
    (void)self;
    if (nargs != 4) return unfit("likeness(y, usual, out, least)");
    const double least = PyFloat_AsDouble(args[3]);
    if (PyErr_Occurred() || !views(args, 3, kinds, v)) return NULL;
    const idx n = v[0].len / 8, width = v[1].len / 8, many = v[2].len / 8;
    const int fits = width > 0 && n >= many + width - 1;
    double *row = fits ? PyMem_Malloc((size_t)width * sizeof(double)) : NULL;
    if (row) {
        const double *usual = v[1].buf, *x = (const double *)v[0].buf + n - (many + width - 1);
        double *out = v[2].buf;
        for (idx k = 0; k < many; k++, x++) {
            const double mean = sum(x, width) / (double)width;
            for (idx i = 0; i < width; i++) row[i] = x[i] * x[i];
            const double squares = sum(row, width) - (double)width * mean * mean, norm = sqrt(squares > 1e-30 ? squares : 1e-30);
            for (idx i = 0; i < width; i++) row[i] = x[i] * usual[i];
            out[k] = norm > least ? sum(row, width) / norm : 0.0;
        }
        PyMem_Free(row);
    }
    release(v, 3);
    if (!row) return fits ? PyErr_NoMemory() : unfit("likeness");
    Py_RETURN_NONE;
}

/* centred(y, starts, out): the rows of y that begin there, without their means */
static PyObject *centred(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "rl", "wd"};
    Py_buffer v[3];
    (void)self;
    if (nargs != 3) return unfit("centred(y, starts, out)");
    if (!views(args, 3, kinds, v)) return NULL;
    const idx rows = v[1].len / (idx)sizeof(long), n = rows ? v[2].len / 8 / rows : 0;
    const long *starts = v[1].buf;
    int fits = n > 0 && v[2].len == rows * n * 8;
    for (idx k = 0; k < rows; k++) fits = fits && starts[k] >= 0 && (starts[k] + n) * 8 <= v[0].len;
    for (idx k = 0; fits && k < rows; k++) {
        const double *x = (const double *)v[0].buf + starts[k], mean = sum(x, n) / (double)n;
        double *out = (double *)v[2].buf + k * n;
        for (idx i = 0; i < n; i++) out[i] = x[i] - mean;
    }
    release(v, 3);
    if (!fits) return unfit("centred");
    Py_RETURN_NONE;
}

/* The k-th smallest of n values, which are moved about; those before it are no larger. */
static double smallest(double *a, idx n, idx k)
{
    idx low = 0, high = n - 1;
    while (low < high) {
        const double pivot = a[(low + high) / 2];
        idx i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (pivot < a[j]) j--;
            if (i <= j) {
                const double x = a[i];
                a[i++] = a[j];
                a[j--] = x;
            }
        }
        if (k <= j) high = j;
        else if (k >= i) low = i;
        else break;
    }
    return a[k];
}

/* column_medians(x, out) of the rows of x, each as long as out */
static PyObject *column_medians(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "wd"};
    Py_buffer v[2];
    (void)self;
    if (nargs != 2) return unfit("column_medians(x, out)");
    if (!views(args, 2, kinds, v)) return NULL;
    const idx width = v[1].len / 8, rows = width ? v[0].len / 8 / width : 0;
    const int fits = rows > 0 && v[0].len == rows * width * 8;
    double *column = fits ? PyMem_Malloc((size_t)rows * sizeof(double)) : NULL;
    if (column) {
        const double *x = v[0].buf;
        double *out = v[1].buf;
        for (idx c = 0; c < width; c++) {
            for (idx r = 0; r < rows; r++) column[r] = x[r * width + c];
            double middle = smallest(column, rows, rows / 2);
            if (rows % 2 == 0) {
                double below = column[0];
                for (idx r = 1; r < rows / 2; r++) if (column[r] > below) below = column[r];
                middle = (below + middle) / 2;
            }
            out[c] = middle;
        }
        PyMem_Free(column);
    }
    release(v, 2);
    if (!column) return fits ? PyErr_NoMemory() : unfit("column_medians");
    Py_RETURN_NONE;
}

/* band_power(spectra, out, bins, start, stop): squared, 0 outside start..stop */
static PyObject *band_power(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rZd", "wd"};
    Py_buffer v[2];
    idx given[3];
    (void)self;
    if (nargs != 5) return unfit("band_power(spectra, out, bins, start, stop)");
    if (!wholes(args + 2, 3, given) || !views(args, 2, kinds, v)) return NULL;
    const idx bins = given[0], many = v[1].len / 8;
    const int fits = bins > 0 && v[0].len == 2 * v[1].len && many % bins == 0;
    if (fits) {
        const double *z = v[0].buf;
        double *out = v[1].buf;
        for (idx i = 0; i < many; i++) {
            const idx bin = i % bins;
            out[i] = bin >= given[1] && bin < given[2] ? z[2 * i] * z[2 * i] + z[2 * i + 1] * z[2 * i + 1] : 0.0;
        }
    }
    release(v, 2);
    if (!fits) return unfit("band_power");
    Py_RETURN_NONE;
}

/* look(window, powers, again, like, bins, unbias, band, slow, peaks, lag, width, reach, same, resembles) ->
 * repeats, best lag, slow, concentration, peak_hz, peaked, steady, size^2 * padded / 2, mean square of the last second, alike, last that
 * resembles (or -1). bins and unbias have a value for each bin of the band and each lag. */
static PyObject *look(PyObject *self, PyObject *const *args, idx nargs)
{
    static const char *kinds[] = {"rd", "rd", "rd", "rd", "rd", "rd"};
    Py_buffer v[6];
    idx given[5];
    double part[3];
    (void)self;
    if (nargs != 14) return unfit("look(window, powers, again, like, bins, unbias, band, slow, peaks, lag, width, reach, same, resembles)");
    for (int i = 0; i < 3; i++) part[i] = PyFloat_AsDouble(args[11 + i]);
    if (PyErr_Occurred() || !wholes(args + 6, 5, given) || !views(args, 6, kinds, v)) return NULL;
    const double *window = v[0].buf, *powers = v[1].buf, *again = v[2].buf, *like = v[3].buf, *bins = v[4].buf, *unbias = v[5].buf;
    const idx n = v[0].len / 8, band = given[0], slow = given[1], peaks_ = given[2], lag = given[3], width = given[4], many = v[4].len / 8,
              lags = v[5].len / 8;
    const idx sixth = n / 6;
    const int fits = sixth > 0 && v[3].len == v[0].len && band >= 0 && (band + many) * 8 <= v[1].len && slow >= 0 && slow <= many && peaks_ > 0 &&
                     peaks_ <= many && lag >= 0 && lags > 2 && (lag + lags) * 8 <= v[2].len && width > 0 && width <= n;
    double *room = fits ? PyMem_Malloc((size_t)(n + many + lags) * sizeof(double)) : NULL;
    if (!room) { release(v, 6); return fits ? PyErr_NoMemory() : unfit("look"); }
    double *squares = room, *near = squares + n, *tops = near + many;

    const double *power = powers + band;
    double whole = sum(power, many);
    whole = whole > 1e-30 ? whole : 1e-30;
    const double share = sum(power, slow) / whole;
    idx peak = 0;
    for (idx i = 1; i < peaks_; i++) if (power[i] > power[peak]) peak = i;
    const double hz = bins[peak];
    for (idx i = 0; i < many; i++) {
        const double apart = fabs(bins[i] - hz);
        near[i] = apart <= part[0] || fabs(apart - hz) <= part[0] ? power[i] : 0.0;
    }
    const double concentration = sum(near, many) / whole;

    double highest = 0;
    for (idx i = 0; i < lags; i++) tops[i] = again[lag + i] * unbias[i];
    for (idx i = 0; i + 2 < lags; i++) { /* tops[i] is not read again once it is written */
        tops[i] = tops[i + 1] > tops[i] && tops[i + 1] >= tops[i + 2] ? tops[i + 1] : 0.0;
        if (i == 0 || tops[i] > highest) highest = tops[i];
    }
    idx best = 0;
    while (best + 3 < lags && !(tops[best] >= part[1] * highest)) best++;
    double repeats = highest / (again[0] > 1e-30 ? again[0] : 1e-30);
    repeats = repeats < 1.0 ? repeats : 1.0;

    double parts[6], least = 0, most = 0;
    for (idx i = 0; i < n; i++) squares[i] = window[i] * window[i];
    double energy = sum(squares, n) / (double)n;
    energy = energy > 1e-30 ? energy : 1e-30;
    for (int p = 0; p < 6; p++) {
        parts[p] = sum(squares + n - (6 - p) * sixth, sixth) / (double)sixth;
        if (p == 0 || parts[p] < least) least = parts[p];
        if (p == 0 || parts[p] > most) most = parts[p];
    }
    for (idx i = 0; i < n; i++) squares[i] = squares[i] * squares[i];
    const double peaked = sum(squares, n) / ((double)n * energy * energy), steady = sqrt(least / (most > 1e-30 ? most : 1e-30));

    double alike = like[width - 1];
    idx resembling = -1;
    for (idx i = width; i < n; i++) if (like[i] > alike) alike = like[i];
    for (idx i = 0; i < n; i++) if (like[i] > part[2]) resembling = i;
    PyMem_Free(room);
    release(v, 6);
    return Py_BuildValue("dnddddddddn", repeats, best, share, concentration, hz, peaked, steady, whole, sqrt((parts[4] + parts[5]) / 2.0), alike,
                         resembling);
}

__attribute__((visibility("hidden"))) PyMethodDef measure_methods[] = {
    {"extents", (PyCFunction)(void (*)(void))extents, METH_FASTCALL, NULL},
    {"tapered", (PyCFunction)(void (*)(void))tapered, METH_FASTCALL, NULL},
    {"between_beats", (PyCFunction)(void (*)(void))between_beats, METH_FASTCALL, NULL},
    {"lines", (PyCFunction)(void (*)(void))lines, METH_FASTCALL, NULL},
    {"slope_energy", (PyCFunction)(void (*)(void))slope_energy, METH_FASTCALL, NULL},
    {"peaks", (PyCFunction)(void (*)(void))peaks, METH_FASTCALL, NULL},
    {"close_pairs", (PyCFunction)(void (*)(void))close_pairs, METH_FASTCALL, NULL},
    {"high_pass", (PyCFunction)(void (*)(void))high_pass, METH_FASTCALL, NULL},
    {"likeness", (PyCFunction)(void (*)(void))likeness, METH_FASTCALL, NULL},
    {"centred", (PyCFunction)(void (*)(void))centred, METH_FASTCALL, NULL},
    {"column_medians", (PyCFunction)(void (*)(void))column_medians, METH_FASTCALL, NULL},
    {"band_power", (PyCFunction)(void (*)(void))band_power, METH_FASTCALL, NULL},
    {"look", (PyCFunction)(void (*)(void))look, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};
