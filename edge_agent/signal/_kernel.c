/* What runs per sample of the QRS detector. qrs_reference.py says the same in plain Python and is the specification:
 * every expression here is written in its order, in double or exact integer arithmetic, so that both give the same bits
 * (build with -ffp-contract=off). */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define QUANTUM 16777216.0
#define LIMIT 16777216.0
#define NEVER (-((int64_t)1 << 40))
#define GRID 21
#define SHAPE 15
#define FEATURES 49
#define HIDDEN_MAX 64
#define QUEUE 64

/* The order of Design in qrs_reference.py. */
enum {
    P_FS, P_BOX_A, P_BOX_B, P_BOX_C, P_BOX_ENERGY, P_GAIN_SLOPE, P_GAIN_CURVE, P_APART,
    P_AHEAD, P_DELAY, P_LEARN, P_RING, P_VERIFIER, P_REFRACTORY, P_GAIN_LEVEL, P_CAP_LEVEL, P_GAIN_NOISE, P_CAP_NOISE,
    P_SHARE, P_LATE, P_LATE_FALL, P_LATE_LEAST, P_T_FROM, P_T_UNTIL,
    P_T_FRACTION, P_NEXT, P_BACK, P_BACK_K, P_THRESHOLD, P_COUNT
};

typedef struct {
    double p[P_COUNT];
    int a, b, c, w, apart, ahead, delay, learn, mask, slope_half, hold;
    int grid[GRID], shape[SHAPE];
    int past_step, past_count, past_from, fine, coarse;
    int inputs, hidden;
    double *w1, *b1, *w2, b2;
    /* signal */
    int64_t origin, t, offset, last_u, sum_a, sum_c;
    int started, phase;
    int64_t bad;
    double s1, f1, s2, f2, best;
    int64_t best_t, signal_from;
    int64_t *ru, *ra, *rd;
    double *rs, *rp, *rb, *re;
    /* beats */
    int64_t queue[QUEUE];
    int queued, learned;
    double level, noise, floor_, slope_level, rr, rrs[8], tops[8], typical;
    int rr_n, tops_n;
    double out1, out2, loud_e;
    int64_t loud_q;
    int stand_out;
    int64_t last, last2, event, back_q, prev_q;
    double last_slope, back_e, back_slope, prev_e, reject_e;
    double t1[SHAPE], t2[SHAPE];
    int has1, has2;
    /* output */
    int64_t (*out)[2];
    double *out_c;
    int out_n, out_room;
    /* for training */
    int trace;
    double *rows;
    size_t rows_n, rows_room;
    int64_t *force;
    Py_ssize_t force_n;
} Core;

static void forget_signal(Core *k, int64_t first)
{
    size_t n = (size_t)k->mask + 1;
    k->origin = first;
    k->t = 0;
    k->offset = k->last_u = k->sum_a = k->sum_c = 0;
    k->started = 0;
    k->phase = 0;
    k->bad = 0;
    k->s1 = k->f1 = k->s2 = k->f2 = 0;
    k->best = -1;
    k->best_t = -1;
    k->signal_from = -1;
    memset(k->ru, 0, n * 8 * 7);
    k->queued = 0;
    k->last = k->last2 = k->prev_q = k->loud_q = NEVER;
    k->loud_e = 0;
    k->out1 = k->out2 = 0;
    k->stand_out = 0;
    k->back_q = -1;
    k->back_e = k->prev_e = k->reject_e = 0;
    k->event = INT64_MAX;
}

static void forget_patient(Core *k)
{
    k->learned = 0;
    k->level = k->noise = k->floor_ = k->slope_level = 0;
    k->rr = 0;
    k->rr_n = k->tops_n = 0;
    k->typical = 0;
    k->last_slope = 0;
    k->has1 = k->has2 = 0;
}

static double median8(const double *v, int n)
{
    double s[8];
    for (int i = 0; i < n; i++) {
        int j = i;
        double x = v[i];
        while (j > 0 && s[j - 1] > x) { s[j] = s[j - 1]; j--; }
        s[j] = x;
    }
    return s[n / 2];
}

static void push8(double *v, int *n, double x)
{
    if (*n == 8) { memmove(v, v + 1, 7 * sizeof(double)); *n = 7; }
    v[(*n)++] = x;
}

static double ratio(double x, double y) /* log(x/y) within +-4 */
{
    if (!(x > y * 0.018315638888734179)) return -4;
    if (!(x < y * 54.598150033144236)) return 4;
    return log(x / y);
}

/* The level was wrong: so was what was measured beside it. */
static void relevel(Core *k, double to)
{
    double f = to / k->level;
    k->level = to;
    k->slope_level *= f;
    k->last_slope *= f;
    k->typical *= f;
    for (int i = 0; i < k->tops_n; i++) k->tops[i] *= f;
    if (k->noise > 0.2 * to) k->noise = 0.2 * to;
}

static int64_t locate(const Core *k, int64_t q)
{
    int64_t m = k->mask, c = q - k->delay;
    int64_t half = (int64_t)(0.08 * k->p[P_FS] + 0.5), edge = (int64_t)(0.12 * k->p[P_FS] + 0.5), sum = 0;
    for (int64_t j = -2; j <= 2; j++) sum += k->ru[(c - edge + j) & m] + k->ru[(c + edge + j) & m];
    int64_t most = -1, at = c;
    for (int64_t j = c - half < 0 ? 0 : c - half; j <= c + half; j++) {
        int64_t v = 10 * k->ru[j & m] - sum;
        if (v < 0) v = -v;
        if (v > most) { most = v; at = j; }
    }
    return at;
}

static void accept(Core *k, int64_t q, double e, double slope, int64_t t, double confidence)
{
    double dt = (double)(q - k->last) / k->p[P_FS];
    if (k->tops_n == 8 && e > 0.5 * k->typical && e < 2 * k->typical && dt > 0.65 * k->rr && dt < 1.35 * k->rr
        && k->re[(q - 2 * k->apart) & k->mask] > 0)
        k->floor_ += 0.03 * (0.2 * k->level - k->floor_);
    if (dt < 3.0) {
        push8(k->rrs, &k->rr_n, dt);
        k->rr = median8(k->rrs, k->rr_n);
    }
    push8(k->tops, &k->tops_n, e);
    k->typical = median8(k->tops, k->tops_n);
    double cap = k->p[P_CAP_LEVEL] * k->level;
    k->level += k->p[P_GAIN_LEVEL] * ((e < cap ? e : cap) - k->level);
    k->out1 = k->out2 = 0;
    k->stand_out = 0;
    if (k->slope_level == 0) k->slope_level = slope;
    else {
        cap = 2 * k->slope_level;
        k->slope_level += 0.13 * ((slope < cap ? slope : cap) - k->slope_level);
    }
    k->last2 = k->last;
    k->last = q;
    k->last_slope = slope;
    k->back_q = -1;
    k->back_e = 0;
    k->reject_e = 0;
    if (k->out_n == k->out_room) {
        int room = k->out_room ? 2 * k->out_room : 64;
        void *o = realloc(k->out, (size_t)room * sizeof *k->out), *oc;
        if (!o) return;
        k->out = o;
        oc = realloc(k->out_c, (size_t)room * sizeof *k->out_c);
        if (!oc) return;
        k->out_c = oc;
        k->out_room = room;
    }
    k->out[k->out_n][0] = k->origin + locate(k, q);
    k->out[k->out_n][1] = k->origin + t;
    k->out_c[k->out_n++] = confidence;
}

static void template_update(double *t, int *has, const double *s, double norm)
{
    for (int i = 0; i < SHAPE; i++) t[i] = *has ? t[i] + 0.1 * (s[i] / norm - t[i]) : s[i] / norm;
    *has = 1;
}

static double corr(const double *t, const double *s, double norm)
{
    double dot = 0, tt = 1e-9;
    for (int i = 0; i < SHAPE; i++) { dot += t[i] * s[i]; tt += t[i] * t[i]; }
    return dot / (norm * sqrt(tt));
}

static void decide(Core *k, int64_t q, int64_t t)
{
    const double *p = k->p;
    const int64_t m = k->mask;
    const double fs = p[P_FS];
    const double inv = 1.0 / k->w;
    double ee = k->re[q & m], e = sqrt(ee) * inv;
    double dt = (double)(q - k->last) / fs;
    double x[FEATURES] = {0}, prob = 0, slope = 0, shape[SHAPE], norm = 1e-30, c1 = 0, past;
    int beat, skip;
    int64_t mid = q - (k->w - 1);

    for (int64_t j = mid - k->slope_half; j <= mid + k->slope_half; j++) {
        double v = fabs(k->rs[j & m]);
        if (v > slope) slope = v;
    }
    /* too soon, too small, or no more than the P wave of a heart that stands still */
    skip = dt < p[P_REFRACTORY] || e < 0.04 * k->level || (dt < 60 && e < 0.75 * k->floor_);

    if (dt >= p[P_REFRACTORY] && e > 6 * k->level) {
        if (q - k->loud_q < 2.5 * fs) {
            relevel(k, 0.8 * (e < k->loud_e ? e : k->loud_e));
            k->loud_q = NEVER;
        } else {
            k->loud_q = q;
            k->loud_e = e;
        }
    }

    /* what the signal was like for 1.5 s before */
    double sum = 0;
    int n = 0, above2 = 0, above4 = 0;
    for (int i = 0; i < k->past_count; i++) {
        int64_t j = q - k->past_from - (int64_t)i * k->past_step;
        if (j < k->signal_from) break;
        double v = k->re[j & m];
        sum += v;
        above2 += v > 0.25 * ee;
        above4 += v > 0.0625 * ee;
        n++;
    }
    past = n ? sqrt(sum / n) * inv : 0;

    if (p[P_VERIFIER] != 0) {
        double lo = e, hi = 0, sum_after = 0;
        int n_after = 0, i = 0;
        for (int g = 0; g < GRID; g++) {
            double v = sqrt(k->re[(q + k->grid[g]) & m]) * inv;
            x[28 + g] = v / (v + e);
            if (g >= 2 && g <= 10 && v < lo) lo = v;
            if (g > 12) { sum_after += v; n_after++; if (g >= 16 && v > hi) hi = v; }
        }
        for (int g = 0; g < SHAPE; g++) { shape[g] = k->rs[(mid + k->shape[g]) & m]; norm += shape[g] * shape[g]; }
        norm = sqrt(norm);
        c1 = k->has1 ? corr(k->t1, shape, norm) : 0;
        /* fine and coarse energy around the candidate, straight from the samples */
        int64_t c = q - k->delay, ff = k->fine, cc = k->coarse;
        double fine = 0, coarse = 0, curve = 0;
        for (int64_t j = c - k->slope_half; j <= c + k->slope_half; j++) {
            double v = fabs((double)(k->ru[(j - ff) & m] - 2 * k->ru[j & m] + k->ru[(j + ff) & m]));
            if (v > fine) fine = v;
        }
        for (int64_t j = mid - 2 * k->slope_half; j <= mid + 2 * k->slope_half; j += ff) {
            double v = fabs((double)(k->ra[(j + cc) & m] - k->ra[(j - cc) & m])), w = fabs((double)k->rd[j & m]);
            if (v > coarse) coarse = v;
            if (w > curve) curve = w;
        }
        fine *= 1.0 / QUANTUM;
        coarse *= 1.0 / (QUANTUM * k->a);
        curve *= 1.0 / (QUANTUM * k->a);
        x[i++] = ratio(e, k->level);
        x[i++] = ratio(e, k->noise);
        x[i++] = k->tops_n ? ratio(e, k->typical) : 0;
        x[i++] = ratio(slope, k->slope_level);
        x[i++] = ratio(slope, e);
        x[i++] = ratio(fine, e);
        x[i++] = ratio(coarse, e);
        x[i++] = ratio(curve, e);
        x[i++] = dt < 3 ? dt : 3;
        x[i++] = dt < 0.6 ? dt : 0.6;
        x[i++] = k->rr_n ? ratio(dt, k->rr) : 0;
        double dt2 = (double)(q - k->last2) / fs;
        x[i++] = k->rr_n ? ratio(dt2, k->rr) : 0;
        x[i++] = k->rr_n ? k->rr : 0.8;
        x[i++] = ratio(hi, e);
        x[i++] = ratio(sum_after / n_after, e);
        x[i++] = ratio(lo, e);
        x[i++] = ratio(past, e);
        x[i++] = ratio(past, k->level);
        x[i++] = ratio(k->noise, k->level);
        x[i++] = n ? (double)above2 / n : 0;
        x[i++] = n ? (double)above4 / n : 0;
        x[i++] = ratio(k->reject_e, e);
        x[i++] = ratio(k->prev_e, e);
        double dp = (double)(q - k->prev_q) / fs;
        x[i++] = dp < 1 ? dp : 1;
        x[i++] = c1;
        x[i++] = k->has2 ? corr(k->t2, shape, norm) : 0;
        x[i++] = k->last_slope > 0 ? ratio(slope, k->last_slope) : 0;
        x[i++] = dt < 3 ? 0 : (dt < 30 ? log(dt / 3) : 2.302585092994046);
    }
    if (k->trace && k->force) {
        Py_ssize_t lo = 0, hi = k->force_n;
        while (lo < hi) {
            Py_ssize_t half = (lo + hi) / 2;
            if (k->force[half] < q + k->origin) lo = half + 1;
            else hi = half;
        }
        beat = lo < k->force_n && k->force[lo] == q + k->origin;
        prob = beat;
    } else if (p[P_VERIFIER] != 0 && k->hidden) {
        double h[HIDDEN_MAX], z = k->b2;
        for (int j = 0; j < k->hidden; j++) h[j] = k->b1[j];
        for (int i = 0; i < FEATURES; i++) {
            double v = x[i];
            const double *w = k->w1 + (size_t)i * (size_t)k->hidden;
            for (int j = 0; j < k->hidden; j++) h[j] += w[j] * v;
        }
        for (int j = 0; j < k->hidden; j++) z += k->w2[j] * tanh(h[j]);
        prob = z > -700 ? 1 / (1 + exp(-z)) : 0;
        double need = p[P_THRESHOLD];
        if (k->rr_n && dt > 1.5 * k->rr && c1 > 0.85 && e > 0.55 * k->typical && e < 1.8 * k->typical) need *= 0.3;
        else if (dt > 2.5 && e > 2.5 * past && e > 0.5 * k->level && e < 2 * k->level && e > 3 * k->floor_) need *= 0.1;
        beat = !skip && prob >= need;
    } else {
        double f = p[P_SHARE];
        if (k->rr_n && dt > p[P_LATE] * k->rr) {
            double g = 1 - p[P_LATE_FALL] * (dt / k->rr - p[P_LATE]);
            f *= g > p[P_LATE_LEAST] ? g : p[P_LATE_LEAST];
        }
        double threshold = k->noise + f * (k->level - k->noise);
        beat = !skip && e > threshold;
        prob = e / (e + threshold);
        if (beat && dt < p[P_T_UNTIL]) {
            double g = p[P_T_FRACTION] * (dt < p[P_T_FROM] ? 1 : (p[P_T_UNTIL] - dt) / (p[P_T_UNTIL] - p[P_T_FROM]));
            beat = slope > g * k->last_slope;
        }
        for (int64_t j = q + k->apart; beat && j <= q + k->ahead; j++) beat = !(k->re[j & m] > p[P_NEXT] * ee);
    }
    if (k->trace) {
        if (k->rows_n + FEATURES + 6 > k->rows_room) {
            size_t room = k->rows_room ? 2 * k->rows_room : 65536;
            double *r = realloc(k->rows, room * sizeof(double));
            if (r) { k->rows = r; k->rows_room = room; }
        }
        if (k->rows_n + FEATURES + 6 <= k->rows_room) {
            double *r = k->rows + k->rows_n;
            r[0] = (double)(k->origin + q);
            r[1] = (double)(k->origin + locate(k, q));
            r[2] = beat;
            r[3] = prob;
            r[4] = skip;
            r[5] = e;
            memcpy(r + 6, x, sizeof x);
            k->rows_n += FEATURES + 6;
        }
    }
    k->prev_q = q;
    k->prev_e = e;
    if (beat) {
        if (p[P_VERIFIER] != 0) {
            if (!k->has1 || c1 > 0.7) template_update(k->t1, &k->has1, shape, norm);
            else template_update(k->t2, &k->has2, shape, norm);
        }
        accept(k, q, e, slope, t, prob);
    } else if (dt >= p[P_REFRACTORY]) {
        double cap = p[P_CAP_NOISE] * k->level;
        k->noise += p[P_GAIN_NOISE] * ((e < cap ? e : cap) - k->noise);
        if (e > k->reject_e) k->reject_e = e;
        if (p[P_VERIFIER] == 0 && dt > 0.3 && e > k->back_e) {
            k->back_q = q;
            k->back_e = e;
            k->back_slope = slope;
        }
        if (e > 2.5 * past) {
            /* a candidate that stands out: with no beat for long, the level was wrong */
            if (e > k->out1) { k->out2 = k->out1; k->out1 = e; } else if (e > k->out2) k->out2 = e;
            if (dt > 2.0 && ++k->stand_out >= 2) {
                double to = 0.8 * k->out2;
                if (dt < 60 && to < k->floor_) to = k->floor_;
                if (to < k->level) relevel(k, to);
                k->out1 = k->out2 = 0;
                k->stand_out = 0;
            }
        }
    }
}

static void search_back(Core *k, int64_t t)
{
    int64_t q = k->back_q;
    double e = k->back_e;
    k->back_q = -1;
    k->back_e = 0;
    if (e > k->noise + k->p[P_BACK_K] * (k->level - k->noise) && e >= 0.75 * k->floor_)
        accept(k, q, e, k->back_slope, t, 0.5);
}

static void learn(Core *k)
{
    double top = 0, second = 0;
    for (int i = 0; i < k->queued; i++) {
        double e = sqrt(k->re[k->queue[i] & k->mask]) * (1.0 / k->w);
        if (e > top) { second = top; top = e; } else if (e > second) second = e;
    }
    if (top == 0) return;
    k->level = 0.8 * (second > 0.5 * top ? second : 0.5 * top);
    k->noise = 0.1 * k->level;
    k->floor_ = 0;
    k->learned = 1;
}

/* Everything that happens at a sample but is not needed at every sample. Returns with `event` at the next time. */
static void events(Core *k, int64_t t)
{
    if (!k->learned) {
        if (k->signal_from >= 0 && t - k->signal_from >= k->learn) learn(k);
        if (!k->learned) { k->event = t + 1; return; }
    }
    while (k->queued && t >= k->queue[0] + k->ahead) {
        int64_t q = k->queue[0];
        k->queued--;
        memmove(k->queue, k->queue + 1, (size_t)k->queued * sizeof(int64_t));
        decide(k, q, t);
    }
    k->event = k->queued ? k->queue[0] + k->ahead : INT64_MAX;
    if (k->back_q >= 0 && k->rr_n) {
        int64_t due = k->last + k->ahead + (int64_t)(k->p[P_BACK] * k->rr * k->p[P_FS]);
        if (t >= due) search_back(k, t);
        else if (due < k->event) k->event = due;
    }
}

static void candidate(Core *k)
{
    int64_t q = k->best_t, m = k->mask;
    double v = k->best;
    k->best = -1;
    if (!(v > 0)) return;
    for (int64_t j = q - k->apart; j < q; j++)
        if (!(k->re[j & m] < v)) return;
    if (k->queued == QUEUE) {
        k->queued--;
        memmove(k->queue, k->queue + 1, (size_t)k->queued * sizeof(int64_t));
    }
    k->queue[k->queued++] = q;
    if (k->queue[0] + k->ahead < k->event) k->event = k->queue[0] + k->ahead;
}

static void run(Core *k, const float *x, Py_ssize_t n)
{
    const int64_t m = k->mask;
    int64_t t = k->t, last_u = k->last_u, sum_a = k->sum_a, sum_c = k->sum_c, offset = k->offset;
    double s1 = k->s1, f1 = k->f1, s2 = k->s2, f2 = k->f2, best = k->best;
    const double gs = k->p[P_GAIN_SLOPE], gc = k->p[P_GAIN_CURVE];
    const int a = k->a, b = k->b, c = k->c, w = k->w;
    int phase = k->phase;
    int64_t quiet = k->best_t + k->apart;
    for (Py_ssize_t i = 0; i < n; i++, t++) {
        double v = x ? (double)x[i] : NAN;
        int64_t u;
        if (fabs(v) < LIMIT) {
            int64_t q = (int64_t)(v * QUANTUM);
            if (k->bad || !k->started) {
                if (!k->started) offset = q;
                else if (k->bad > k->hold) offset = q - last_u;
                k->started = 1;
                k->bad = 0;
            }
            u = q - offset;
            last_u = u;
        } else {
            k->bad++;
            u = last_u;
        }
        k->ru[t & m] = u;
        sum_a += u - k->ru[(t - a) & m];
        k->ra[t & m] = sum_a;
        int64_t d1 = sum_a - k->ra[(t - b) & m];
        int64_t curve_i = d1 - k->rd[(t - c) & m];
        k->rd[t & m] = d1;
        sum_c += curve_i;
        double slope = gs * (double)sum_c, curve = gc * (double)curve_i;
        k->rs[t & m] = slope;
        double pw = slope * slope + curve * curve;
        f1 += pw;
        s1 = (s1 + pw) - k->rp[(t - w) & m];
        k->rp[t & m] = pw;
        f2 += s1;
        s2 = (s2 + s1) - k->rb[(t - w) & m];
        k->rb[t & m] = s1;
        if (++phase == w) {
            phase = 0;
            s1 = f1;
            s2 = f2;
            f1 = f2 = 0;
        }
        double e2 = s2 > 0 ? s2 : 0;
        k->re[t & m] = e2;
        if (e2 > best) {
            best = e2;
            quiet = t + k->apart;
        } else if (t == quiet) {
            k->best = best;
            k->best_t = quiet - k->apart;
            candidate(k);
            best = k->best;
        }
        if (k->signal_from < 0 && e2 > 0) {
            k->signal_from = t;
            if (!k->learned) k->event = t + k->learn;
        }
        if (t >= k->event) events(k, t);
    }
    k->t = t;
    k->last_u = last_u; k->sum_a = sum_a; k->sum_c = sum_c; k->offset = offset;
    k->s1 = s1; k->f1 = f1; k->s2 = s2; k->f2 = f2;
    k->best = best;
    k->best_t = quiet - k->apart;
    k->phase = phase;
}

/* ---- Python ---- */

typedef struct { PyObject_HEAD Core k; } Kernel;

static PyObject *take(Core *k, int64_t last)
{
    if (!k->out_n) Py_RETURN_NONE;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < k->out_n; i++) {
        int64_t s = k->out[i][0], known = k->out[i][1];
        if (s > last) continue;
        if (known > last) known = last;
        PyObject *o = Py_BuildValue("(LLd)", (long long)s, (long long)known, k->out_c[i]);
        if (!o || PyList_Append(list, o) < 0) { Py_XDECREF(o); Py_CLEAR(list); break; }
        Py_DECREF(o);
    }
    k->out_n = 0;
    return list;
}

static PyObject *kernel_reset(Kernel *self, PyObject *arg)
{
    long long first = PyLong_AsLongLong(arg);
    if (first == -1 && PyErr_Occurred()) return NULL;
    Core *k = &self->k;
    if (first < k->origin + k->t || first > k->origin + k->t + (int64_t)(30 * k->p[P_FS])) forget_patient(k);
    forget_signal(k, first);
    Py_RETURN_NONE;
}

static PyObject *kernel_feed(Kernel *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer v;
    Core *k = &self->k;
    if (nargs != 2) { PyErr_SetString(PyExc_TypeError, "feed(x, first)"); return NULL; }
    long long first = PyLong_AsLongLong(args[1]);
    if (first == -1 && PyErr_Occurred()) return NULL;
    if (PyObject_GetBuffer(args[0], &v, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) return NULL;
    if (v.itemsize != 4 || !v.format || v.format[0] != 'f') {
        PyBuffer_Release(&v);
        PyErr_SetString(PyExc_TypeError, "feed needs contiguous float32 samples");
        return NULL;
    }
    if (first != k->origin + k->t) {
        PyObject *o = kernel_reset(self, args[1]);
        Py_XDECREF(o);
    }
    run(k, v.buf, v.len / 4);
    PyBuffer_Release(&v);
    return take(k, INT64_MAX);
}

static PyObject *kernel_flush(Kernel *self, PyObject *Py_UNUSED(ignored))
{
    Core *k = &self->k;
    int64_t last = k->origin + k->t - 1;
    if (k->signal_from >= 0 && !k->learned) {
        run(k, NULL, k->delay + k->apart);
        if (!k->learned) {
            learn(k);
            k->event = k->t;
        }
        run(k, NULL, k->ahead - k->apart + 1);
    } else run(k, NULL, k->delay + k->ahead + 1);
    PyObject *o = take(k, last);
    forget_signal(k, last + 1);
    return o;
}

static PyObject *kernel_force(Kernel *self, PyObject *arg)
{
    char *b; Py_ssize_t n;
    if (PyBytes_AsStringAndSize(arg, &b, &n) < 0) return NULL;
    free(self->k.force);
    self->k.force = malloc((size_t)n + 8);
    if (!self->k.force) return PyErr_NoMemory();
    memcpy(self->k.force, b, (size_t)n);
    self->k.force_n = n / 8;
    Py_RETURN_NONE;
}

static PyObject *kernel_trace(Kernel *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *o = PyBytes_FromStringAndSize((char *)self->k.rows, (Py_ssize_t)(self->k.rows_n * sizeof(double)));
    self->k.rows_n = 0;
    return o;
}

static PyObject *kernel_learned(Kernel *self, void *Py_UNUSED(closure)) { return PyBool_FromLong(self->k.learned); }

static int setup(Core *k, const char *design, const char *weights, size_t nw)
{
    double *p = k->p, w[2] = {0, 0};
    memcpy(p, design, sizeof k->p);
    const double fs = p[P_FS];
    k->a = (int)p[P_BOX_A]; k->b = (int)p[P_BOX_B]; k->c = (int)p[P_BOX_C]; k->w = (int)p[P_BOX_ENERGY];
    k->apart = (int)p[P_APART]; k->ahead = (int)p[P_AHEAD]; k->delay = (int)p[P_DELAY]; k->learn = (int)p[P_LEARN];
    k->mask = (int)p[P_RING] - 1;
    k->slope_half = (int)(0.06 * fs + 0.5);
    k->hold = (int)(0.04 * fs);
    for (int g = 0; g < GRID; g++) {
        double s = (-0.36 + 0.03 * g) * fs;
        k->grid[g] = (int)(s < 0 ? s - 0.5 : s + 0.5);
        if (k->grid[g] > k->ahead) k->grid[g] = k->ahead;
    }
    for (int g = 0; g < SHAPE; g++) {
        double s = 0.012 * (g - SHAPE / 2) * fs;
        k->shape[g] = (int)(s < 0 ? s - 0.5 : s + 0.5);
    }
    k->past_step = (int)(0.025 * fs + 0.5);
    k->past_from = k->apart;
    k->past_count = (int)(1.38 * fs) / k->past_step;
    k->fine = (int)(0.006 * fs + 0.5);
    if (k->fine < 1) k->fine = 1;
    k->coarse = (int)(0.03 * fs + 0.5);
    if (k->coarse < 1) k->coarse = 1;
    if (nw) {
        if (nw < 2) return -1;
        memcpy(w, weights, sizeof w);
        k->inputs = (int)w[0]; k->hidden = (int)w[1];
        if (k->inputs != FEATURES || k->hidden < 1 || k->hidden > HIDDEN_MAX) return -1;
        size_t h = (size_t)k->hidden, i = (size_t)k->inputs;
        if (nw != 2 + i * h + h + h + 1) return -1;
        double *c = malloc((nw - 2) * sizeof(double));
        if (!c) return -1;
        memcpy(c, weights + sizeof w, (nw - 2) * sizeof(double));
        k->w1 = c; k->b1 = c + i * h; k->w2 = k->b1 + h; k->b2 = k->w2[h];
    }
    size_t n = (size_t)k->mask + 1;
    char *r = malloc(n * 8 * 7);
    if (!r) return -1;
    k->ru = (int64_t *)r; k->ra = k->ru + n; k->rd = k->ra + n;
    k->rs = (double *)(k->rd + n); k->rp = k->rs + n; k->rb = k->rp + n; k->re = k->rb + n;
    return 0;
}

static PyObject *kernel_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    static char *names[] = {"design", "weights", "first", "trace", NULL};
    const char *p, *w; Py_ssize_t np, nw; long long first = 0; int trace = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "y#y#L|p", names, &p, &np, &w, &nw, &first, &trace)) return NULL;
    if (np != P_COUNT * 8) { PyErr_Format(PyExc_ValueError, "the design needs %d numbers", P_COUNT); return NULL; }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Kernel *self = (Kernel *)alloc(type, 0);
    if (!self) return NULL;
    if (setup(&self->k, p, w, (size_t)nw / sizeof(double)) < 0) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, "weights that do not fit");
        return NULL;
    }
    self->k.trace = trace;
    forget_patient(&self->k);
    forget_signal(&self->k, first);
    return (PyObject *)self;
}

static void kernel_dealloc(Kernel *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    free(self->k.w1); free(self->k.ru); free(self->k.out); free(self->k.out_c); free(self->k.rows); free(self->k.force);
    freefunc f = (freefunc)PyType_GetSlot(type, Py_tp_free);
    f(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"feed", (PyCFunction)(void (*)(void))kernel_feed, METH_FASTCALL, NULL},
    {"flush", (PyCFunction)(void (*)(void))kernel_flush, METH_NOARGS, NULL},
    {"reset", (PyCFunction)(void (*)(void))kernel_reset, METH_O, NULL},
    {"force", (PyCFunction)(void (*)(void))kernel_force, METH_O, NULL},
    {"trace", (PyCFunction)(void (*)(void))kernel_trace, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef getset[] = {{"learned", (getter)(void (*)(void))kernel_learned, NULL, NULL, NULL},
                               {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot slots[] = {{Py_tp_new, kernel_new}, {Py_tp_dealloc, kernel_dealloc}, {Py_tp_methods, methods},
                              {Py_tp_getset, getset}, {0, NULL}};
static PyType_Spec spec = {"edge_agent.signal._kernel.Kernel", sizeof(Kernel), 0, Py_TPFLAGS_DEFAULT, slots};
extern PyMethodDef window_methods[];  /* _window.c */
extern PyMethodDef measure_methods[]; /* _measure.c */
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, window_methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *m = PyModule_Create(&module), *t = PyType_FromSpec(&spec);
    if (!m || !t || PyModule_AddFunctions(m, measure_methods) < 0 || PyModule_AddObject(m, "Kernel", t) < 0) return NULL;
    return m;
}
