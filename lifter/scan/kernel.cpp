// Selective scan on a CPU, forward and backward, token-major.
//
// Compiled several times, once per instruction set (see setup.py); Python picks the widest one that
// the machine supports. No dependency but the C++ standard library; the interface is plain C, called through ctypes.
//
// A Direction is one walk over the L tokens of every sample. Per step l, with token = order[l] and channel e:
//   delta = softplus(delta_in[token, e] + dt_bias[e] + sum_r dt_weight[r, e] * proj[token, r])
//   h[n]  = exp2(delta * A2[n, e]) * h[n] + delta * source[token, e] * proj[token, R + n]
//   y[token, e] += sum_n proj[token, R + N + n] * h[n] + D[e] * source[token, e]
// A2 = A * log2(e). Softplus is the identity above 20. The lanes of a vector are neighboring channels, and no sequence
// is ever copied, reversed or materialised.
//
// Both passes walk in chunks of CHUNK steps, every block of channels through one chunk before the next: what the blocks
// share (the projections, the sums over channels) stays in the first cache. Between chunks a block's state lies in
// memory; a forward pass that gradients follow keeps it there ("checkpoints").
//
// Backward: chunk by chunk, from the last to the first, states are recomputed from the checkpoint and the recurrence
// runs in reverse. Sums over channels (for proj) are kept lane-wise over all blocks of a chunk and reduced once. With 16
// vector registers nearly everything comes from memory, so that what counts is how few loads and stores a step takes:
// gradients of the output gates are summed while states are recomputed, and decays that are powers of each other are
// multiplied again instead of being stored.

#include <cmath>
#include <cstring>

#include "vectors.h"

namespace {

constexpr int N = 16;      // states per channel
constexpr int CHUNK = 16;  // steps between two checkpoints: states and sums of a chunk are 25 kB with 8 lanes

}  // namespace

extern "C" {

// All arrays float32 and contiguous but for the token strides; B samples of L tokens; E channels, a multiple of 16.
struct Direction {
  const float* source;     // (B, L, E)
  const float* proj;       // (B, L, proj_stride): R step inputs, N input gates, N output gates
  const float* delta;      // (B, L, E) or null: added to the step size before the softplus
  const int32_t* order;    // (L,): token visited at each step
  const float* A2;         // (N, E)
  const float* dt_weight;  // (R, E)
  const float* dt_bias;    // (E,)
  const float* D;          // (E,)
  float* y;                // (B, L, E), written by the first direction, added to by others
  float* checkpoints;      // (B, chunks, N, E) or null
  const float* dy;         // (B, L, E); the rest is written by the backward pass only
  float* dsource;          // (B, L, E), written by the first direction of a group, added to by others
  float* dproj;            // (B, L, proj_stride), written
  float* ddelta;           // (B, L, E) or null, written
  float* dA2;              // (B, N, E) or null, gradient of A (not A2), written: the caller sums over samples
  float* ddt_weight;       // (B, R, E)
  float* ddt_bias;         // (B, E)
  float* dD;               // (B, E)
  int64_t proj_stride;
  int32_t rank;            // R
  int32_t softplus;        // 0: step size used as it is
  int32_t group;           // directions of one group share dsource and run one after the other
  int32_t adds_y;          // whether directions before it wrote the same y ...
  int32_t adds_dsource;    // ... and the same dsource
};

}  // extern "C"

namespace {

// What is known of the decays exp2(delta * A2[n]) of a direction.
enum Decays {
  ANY,
  POWERS,  // A2[n] = (n + 1) A2[0]: all decays of a step are powers of one
  UNIT,    // as in a freshly made Mamba, A = -1 ... -N: moreover, that one is the sigmoid of minus the raw step size
};

Decays decays_of(const Direction& d, int64_t E) {
  bool is_unit = d.softplus;
  for (int64_t e = 0; e < E; ++e) {
    for (int n = 1; n < N; ++n) {
      const float expected = (n + 1) * d.A2[e];
      if (!(std::abs(d.A2[n * E + e] - expected) <= 1e-6f * std::abs(expected))) return ANY;
    }
    is_unit = is_unit && std::abs(d.A2[e] + LOG2E) <= 1e-6f;
  }
  return is_unit ? UNIT : POWERS;
}

struct Step {
  V s, du;  // du = delta * s
  V delta;
  V decay;  // that of the first state; not set for ANY
  V slope;  // d delta / d raw step size
  V dy;     // backward only
};

// Step sizes of a chunk, before anything that has to wait from step to step: these are long chains of arithmetic, but
// independent of each other.
template <Decays DECAYS>
inline void step_sizes(const Direction& d, int64_t sample, int64_t L, int64_t E, int64_t e, int64_t begin, int64_t end,
                       Step* steps) {
  const V A2 = load(d.A2 + e), bias = load(d.dt_bias + e);
  const int rank = d.rank;
  const float* weight = d.dt_weight + e;
  for (int64_t l = begin; l < end; ++l) {
    const int64_t token = sample * L + d.order[l];
    const float* proj = d.proj + token * d.proj_stride;
    V raw = bias;
    if (d.delta) raw += load(d.delta + token * E + e);
#pragma GCC unroll 4
    for (int r = 0; r < rank; ++r) raw += load(weight + r * E) * proj[r];
    Step& step = steps[l - begin];
    step.s = load(d.source + token * E + e);
    step.slope = splat(1.0f);
    step.delta = raw;
    if (DECAYS == UNIT || d.softplus) {
      const V small = exp2(vmax(raw, -raw) * -LOG2E);  // exp(-|raw|) in (0, 1]
      const V inverse = 1.0f / (small + 1.0f), rest = small * inverse;
      const V y = vmax(raw, V{}) + log1p(small);
      step.delta = raw > 20.0f ? raw : y;
      step.slope = raw > 0.0f ? inverse : rest;                        // the sigmoid of raw ...
      if (DECAYS == UNIT) step.decay = raw > 0.0f ? rest : inverse;  // ... and 1 minus it, which is exp(-delta)
    }
    if (DECAYS == POWERS) step.decay = exp2(step.delta * A2);
    step.du = step.delta * step.s;
    if (d.dy) step.dy = load(d.dy + token * E + e);
  }
}

// The decays of one step for n = 0, 1, ... in order, in a chain of few multiplications one after the other.
template <Decays DECAYS>
struct DecayChain {
  V first, second, third, fourth, base, delta;
  inline explicit DecayChain(const Step& step) {
    if (DECAYS == ANY) {
      delta = step.delta;
    } else {
      first = step.decay;
      second = first * first;
      third = second * first;
      base = fourth = second * second;
    }
  }
  inline V next(int n, const float* A2) {
    if (DECAYS == ANY) return exp2(delta * load(A2));
    const V power = n % 4 == 0 ? first : n % 4 == 1 ? second : n % 4 == 2 ? third : fourth;
    if (n < 4) return power;
    const V decay = base * power;
    if (n % 4 == 3) base = decay;
    return decay;
  }
};

// One block of channels through steps [begin, end); its state is read from ``before`` and written to ``after``, (N, E).
template <Decays DECAYS>
void forward_chunk_block(const Direction& d, int64_t sample, int64_t L, int64_t E, int64_t e, int64_t begin,
                         int64_t end, const float* before, float* after) {
  Step steps[CHUNK];
  step_sizes<DECAYS>(d, sample, L, E, e, begin, end, steps);
  V h[N];
  for (int n = 0; n < N; ++n) h[n] = load(before + n * E + e);
  const V D = load(d.D + e);
  for (int64_t l = begin; l < end; ++l) {
    const int64_t token = sample * L + d.order[l];
    const Step& step = steps[l - begin];
    const float* gates = d.proj + token * d.proj_stride + d.rank;
    float* y = d.y + token * E + e;
    V y0 = D * step.s, y1 = d.adds_y ? load(y) : V{};
    DecayChain<DECAYS> decays(step);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      h[n] = decays.next(n, d.A2 + n * E + e) * h[n] + step.du * gates[n];
      (n % 2 ? y1 : y0) += h[n] * gates[N + n];
    }
    store(y, y0 + y1);
  }
  for (int n = 0; n < N; ++n) store(after + n * E + e, h[n]);
}

// All chunks of one sample through the blocks of channels [first, last).
void forward_sample(const Direction& d, int64_t sample, int64_t L, int64_t E, int64_t first, int64_t last) {
  const int64_t chunks = (L + CHUNK - 1) / CHUNK;
  const Decays known = decays_of(d, E);
  const auto run = known == UNIT     ? forward_chunk_block<UNIT>
                   : known == POWERS ? forward_chunk_block<POWERS>
                                     : forward_chunk_block<ANY>;
  std::vector<float> state(d.checkpoints ? 0 : N * E);
  float* kept = d.checkpoints ? d.checkpoints + sample * chunks * N * E : state.data();
  for (int n = 0; n < N; ++n) std::fill(kept + n * E + first, kept + n * E + last, 0.0f);
  std::vector<float> end_state(N * E);  // of no use to anybody
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const float* before = d.checkpoints ? kept + chunk * N * E : kept;
    float* after = !d.checkpoints ? kept : chunk + 1 < chunks ? kept + (chunk + 1) * N * E : end_state.data();
    for (int64_t e = first; e < last; e += LANES)
      run(d, sample, L, E, e, chunk * CHUNK, std::min((chunk + 1) * CHUNK, L), before, after);
  }
}

// Working memory of one thread in the backward pass; vectors of V lie aligned, loads never cross cache lines.
struct Scratch {
  std::vector<V> h, decay, dB, dC, dR;
  std::vector<float> carry;
  // Gates of the steps of a chunk. Where decays are powers, the input gates are weighted by n + 1: so are the states then,
  // as the gradient of the step size wants them.
  float weighted[CHUNK][N], in[CHUNK][N], out[CHUNK][N];
  Scratch(int64_t E, int rank)
      : h((CHUNK + 1) * N), decay(CHUNK * N), dB(CHUNK * N), dC(CHUNK * N), dR(CHUNK * rank), carry(N * E) {}
};

template <Decays DECAYS, bool WANTS_DA>
void backward_chunk_block(const Direction& d, Scratch& w, int64_t sample, int64_t L, int64_t E, int64_t e,
                          int64_t begin, int64_t end) {
  const int64_t chunks = (L + CHUNK - 1) / CHUNK;
  const int R = d.rank;
  Step steps[CHUNK];
  step_sizes<DECAYS>(d, sample, L, E, e, begin, end, steps);
  const float* checkpoint = d.checkpoints + (sample * chunks + begin / CHUNK) * N * E + e;
  for (int n = 0; n < N; ++n) w.h[n] = load(checkpoint + n * E) * (DECAYS == ANY ? 1.0f : float(n + 1));
  for (int64_t l = begin; l < end; ++l) {  // (weighted) states of the chunk and gradients of the output gates
    const int64_t i = l - begin;
    const Step& step = steps[i];
    const V du = step.du, dy = step.dy;
    const V* before = w.h.data() + i * N;
    V *after = w.h.data() + (i + 1) * N, *kept = w.decay.data() + i * N, *dC = w.dC.data() + i * N;
    DecayChain<DECAYS> decays(step);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      const V decay = decays.next(n, d.A2 + n * E + e);
      if (DECAYS == ANY) kept[n] = decay;
      after[n] = decay * before[n] + du * w.weighted[i][n];
      dC[n] += after[n] * dy;
    }
  }
  V dh[N];
  for (int n = 0; n < N; ++n) dh[n] = load(w.carry.data() + n * E + e);
  V ddu[CHUNK], ddelta[CHUNK];  // gradients of delta * s and of delta * A2 (of A2[0] alone for powers) over states
  for (int64_t l = end - 1; l >= begin; --l) {
    const int64_t i = l - begin;
    const Step& step = steps[i];
    const V dy = step.dy, du = step.du;
    const V *before = w.h.data() + i * N, *kept = w.decay.data() + i * N;
    V* dB = w.dB.data() + i * N;
    V ddu0 = V{}, ddu1 = V{}, ddelta0 = V{}, ddelta1 = V{};
    DecayChain<DECAYS> decays(step);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      const V g = dh[n] + dy * w.out[i][n];
      dB[n] += g * du;
      (n % 2 ? ddu1 : ddu0) += g * w.in[i][n];
      dh[n] = g * (DECAYS == ANY ? kept[n] : decays.next(n, nullptr));
      const V ddecay = dh[n] * before[n];  // d(loss) / d(delta * A2 / log2 e), times n + 1 for powers
      if (WANTS_DA) {
        float* dA2 = d.dA2 + (sample * N + n) * E + e;
        store(dA2, load(dA2) + ddecay * (DECAYS == ANY ? step.delta : step.delta * (1.0f / (n + 1))));
      }
      (n % 2 ? ddelta1 : ddelta0) += DECAYS == ANY ? ddecay * load(d.A2 + n * E + e) : ddecay;
    }
    ddu[i] = ddu0 + ddu1;
    ddelta[i] = ddelta0 + ddelta1;
  }
  for (int n = 0; n < N; ++n) store(w.carry.data() + n * E + e, dh[n]);
  const V per_A = DECAYS == ANY ? splat(1 / LOG2E) : load(d.A2 + e) * (1 / LOG2E), D = load(d.D + e);
  V dD = load(d.dD + sample * E + e), dbias = load(d.ddt_bias + sample * E + e);
  for (int64_t l = begin; l < end; ++l) {  // from step sizes to what they were made of
    const int64_t i = l - begin, token = sample * L + d.order[l];
    const Step& step = steps[i];
    const V draw = (ddelta[i] * per_A + ddu[i] * step.s) * step.slope;
    ddelta[i] = draw;
    float* dsource = d.dsource + token * E + e;
    const V ds = ddu[i] * step.delta + D * step.dy;
    store(dsource, d.adds_dsource ? load(dsource) + ds : ds);
    dD += step.dy * step.s;
    dbias += draw;
    if (d.ddelta) store(d.ddelta + token * E + e, draw);
  }
  for (int r = 0; r < R; ++r) {
    const V weight = load(d.dt_weight + r * E + e);
    float* total = d.ddt_weight + (sample * R + r) * E + e;
    V dW0 = load(total), dW1 = V{};
    for (int64_t l = begin; l < end; ++l) {
      const int64_t i = l - begin;
      w.dR[i * R + r] += ddelta[i] * weight;
      (i % 2 ? dW1 : dW0) += ddelta[i] * d.proj[(sample * L + d.order[l]) * d.proj_stride + r];
    }
    store(total, dW0 + dW1);
  }
  store(d.dD + sample * E + e, dD);
  store(d.ddt_bias + sample * E + e, dbias);
}

template <Decays DECAYS>
auto backward_block(const Direction& d) {
  return d.dA2 ? backward_chunk_block<DECAYS, true> : backward_chunk_block<DECAYS, false>;
}

void backward_sample(const Direction& d, int64_t sample, int64_t L, int64_t E) {
  const int R = d.rank;
  Scratch w(E, R);
  const Decays known = decays_of(d, E);
  const auto run = known == UNIT     ? backward_block<UNIT>(d)
                   : known == POWERS ? backward_block<POWERS>(d)
                                     : backward_block<ANY>(d);
  auto zero = [](float* p, int64_t count) { std::memset(p, 0, count * sizeof(float)); };
  if (d.dA2) zero(d.dA2 + sample * N * E, N * E);
  zero(d.ddt_weight + sample * R * E, R * E);
  zero(d.ddt_bias + sample * E, E);
  zero(d.dD + sample * E, E);
  for (int64_t chunk = (L + CHUNK - 1) / CHUNK - 1; chunk >= 0; --chunk) {
    const int64_t begin = chunk * CHUNK, end = std::min(begin + CHUNK, L);
    for (auto* sums : {&w.dB, &w.dC, &w.dR}) std::fill(sums->begin(), sums->end(), V{});
    for (int64_t l = begin; l < end; ++l) {
      const float* gates = d.proj + (sample * L + d.order[l]) * d.proj_stride + R;
      for (int n = 0; n < N; ++n) {
        w.in[l - begin][n] = gates[n];
        w.weighted[l - begin][n] = gates[n] * (known == ANY ? 1 : n + 1);
        w.out[l - begin][n] = gates[N + n];
      }
    }
    for (int64_t e = 0; e < E; e += LANES) run(d, w, sample, L, E, e, begin, end);
    for (int64_t l = begin; l < end; ++l) {
      const int64_t i = l - begin;
      float* dproj = d.dproj + (sample * L + d.order[l]) * d.proj_stride;
      for (int r = 0; r < R; ++r) dproj[r] = sum(w.dR[i * R + r]);
      for (int n = 0; n < N; n += 4) {
        sum4(&w.dB[i * N + n], dproj + R + n);
        sum4(&w.dC[i * N + n], dproj + R + N + n);
        for (int m = n; m < n + 4 && known != ANY; ++m) dproj[R + N + m] *= 1.0f / (m + 1);  // states were weighted
      }
    }
  }
}

}  // namespace

extern "C" {

// The files this was compiled from: Python refuses a kernel that is older than its sources.
const char* scan_source_sha256() { return SOURCE_SHA256; }

int scan_chunk() { return CHUNK; }

// Widest build this processor can run: 16, 8 or 4 lanes.
int scan_supported_lanes() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return 16;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
  return 4;
}

void scan_forward(const Direction* directions, int count, int64_t B, int64_t L, int64_t E, int num_threads) {
  const int64_t blocks = E / LANES, shares = std::min(blocks, (num_threads + B - 1) / B);  // of a sample, per thread
  parallel(B * shares, num_threads, [&](int64_t item) {
    const int64_t share = item % shares;
    for (int k = 0; k < count; ++k)
      forward_sample(directions[k], item / shares, L, E, share * blocks / shares * LANES,
                     (share + 1) * blocks / shares * LANES);
  });
}

void scan_backward(const Direction* directions, int count, int groups, int64_t B, int64_t L, int64_t E,
                   int num_threads) {
  parallel(B * groups, num_threads, [&](int64_t item) {
    for (int k = 0; k < count; ++k)
      if (directions[k].group == item % groups) backward_sample(directions[k], item / groups, L, E);
  });
}

}  // extern "C"
