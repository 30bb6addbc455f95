// Selective scan on a CPU, forward and backward, token-major.
//
// Compiled several times from this one file, once per instruction set (see setup.py); Python picks the widest one that
// the machine supports. No dependency but the C++ standard library; the interface is plain C, called through ctypes.
//
// A Direction is one walk over the L tokens of every sample. Per step l, with token = order[l] and channel e:
//   delta = softplus(delta_in[token, e] + dt_bias[e] + sum_r dt_weight[r, e] * proj[token, r])
//   h[n]  = exp2(delta * A2[n, e]) * h[n] + delta * source[token, e] * proj[token, R + n]
//   y[token, e] += sum_n proj[token, R + N + n] * h[n] + D[e] * source[token, e]
// A2 = A * log2(e). Softplus is the identity above 20. The lanes of a vector are neighbouring channels, so the state of
// a block of channels lives in registers and no sequence is ever copied, reversed or materialised.
//
// Backward: the forward pass may leave the state at every CHUNK-th step ("checkpoints"). Chunk by chunk, from the last
// to the first, states are recomputed from the checkpoint and the recurrence runs in reverse. Sums over channels (for
// proj) are kept lane-wise over all channel blocks of a chunk and reduced once.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

namespace {

constexpr int N = 16;      // states per channel
constexpr int CHUNK = 64;  // steps between two checkpoints

typedef float V __attribute__((vector_size(LANES * 4)));
typedef int32_t I __attribute__((vector_size(LANES * 4)));
typedef float VU __attribute__((vector_size(LANES * 4), aligned(4), may_alias));  // unaligned access

inline V load(const float* p) { return *reinterpret_cast<const VU*>(p); }
inline void store(float* p, V v) { *reinterpret_cast<VU*>(p) = v; }
inline V splat(float x) { return x - V{}; }
inline V vmax(V a, V b) { return a > b ? a : b; }
inline float sum(V v) {
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += v[i];
  return total;
}

// 2^x for x in [-inf, 127]: nearest integer part plus a degree-5 polynomial on [-1/2, 1/2], relative error 1.1e-7.
inline V exp2(V x) {
#if defined(__AVX512F__)
  const V k = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  x = vmax(x, splat(-126.0f));
  const V shifted = x + 12582912.0f;  // 1.5 * 2^23: the integer part lands in the low mantissa bits
  const V k = shifted - 12582912.0f;
#endif
  const V f = x - k;
  V p = splat(1.32647271e-3f);
  p = p * f + 9.67151265e-3f;
  p = p * f + 5.55073374e-2f;
  p = p * f + 2.40222421e-1f;
  p = p * f + 6.93146978e-1f;
  p = p * f + 1.0f;
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, k);
#else
  return (V)((I)p + ((I)shifted << 23));
#endif
}

constexpr float LOG2E = 1.44269504f;

// log(1 + exp(x)), the identity above 20.
inline V softplus(V x) {
  const V e = exp2(vmax(x, -x) * -LOG2E);  // exp(-|x|) in (0, 1]
  const V s = e / (e + 2.0f), s2 = s * s;  // log1p(e) = 2 atanh(e / (2 + e)), s <= 1/3
  V p = splat(2.0f / 13);
  p = p * s2 + 2.0f / 11;
  p = p * s2 + 2.0f / 9;
  p = p * s2 + 2.0f / 7;
  p = p * s2 + 2.0f / 5;
  p = p * s2 + 2.0f / 3;
  p = p * s2 + 2.0f;
  const V y = vmax(x, V{}) + p * s;
  return x > 20.0f ? x : y;
}

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
  float* y;                // (B, L, E), accumulated
  float* checkpoints;      // (B, chunks, N, E) or null
  const float* dy;         // (B, L, E); the rest is written by the backward pass only
  float* dsource;          // (B, L, E), accumulated
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
};

}  // extern "C"

namespace {

struct Step {
  V s, raw, delta;
};

inline Step step_size(const Direction& d, int64_t token, int64_t E, int64_t e) {
  const float* proj = d.proj + token * d.proj_stride;
  V raw = load(d.dt_bias + e);
  if (d.delta) raw += load(d.delta + token * E + e);
  for (int r = 0; r < d.rank; ++r) raw += load(d.dt_weight + r * E + e) * proj[r];
  return {load(d.source + token * E + e), raw, d.softplus ? softplus(raw) : raw};
}

// Whether A2[n] = (n + 1) A2[0], as in a freshly made Mamba (A = -1 ... -N): then all decays of a step are powers of one.
bool has_power_decays(const Direction& d, int64_t E, int64_t e) {
  for (int n = 1; n < N; ++n)
    for (int i = 0; i < LANES; ++i) {
      const float expected = (n + 1) * d.A2[e + i], actual = d.A2[n * E + e + i];
      if (!(std::abs(actual - expected) <= 1e-6f * std::abs(expected))) return false;
    }
  return true;
}

// The decays of one step: exp2(delta * A2[n]) for every n, or powers of the first (odd and even ones in two chains).
template <bool POWERS>
inline void step_decays(V delta, const V* A2, V* decay) {
  if (POWERS) {
    decay[0] = exp2(delta * A2[0]);
    decay[1] = decay[0] * decay[0];
    const V square = decay[1];
#pragma GCC unroll 16
    for (int n = 2; n < N; ++n) decay[n] = decay[n - 2] * square;
  } else {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) decay[n] = exp2(delta * A2[n]);
  }
}

template <bool POWERS>
void forward_block(const Direction& d, int64_t sample, int64_t L, int64_t E, int64_t e) {
  const int64_t chunks = (L + CHUNK - 1) / CHUNK;
  V h[N], A2[N];
  for (int n = 0; n < N; ++n) h[n] = V{}, A2[n] = load(d.A2 + n * E + e);
  const V D = load(d.D + e);
  for (int64_t l = 0; l < L; ++l) {
    if (d.checkpoints && l % CHUNK == 0)
      for (int n = 0; n < N; ++n) store(d.checkpoints + ((sample * chunks + l / CHUNK) * N + n) * E + e, h[n]);
    const int64_t token = sample * L + d.order[l];
    const Step step = step_size(d, token, E, e);
    const float* gates = d.proj + token * d.proj_stride + d.rank;
    const V du = step.delta * step.s;
    V y0 = D * step.s, y1 = V{}, decay[N];
    step_decays<POWERS>(step.delta, A2, decay);
#pragma GCC unroll 16
    for (int n = 0; n < N; n += 2) {
      h[n] = decay[n] * h[n] + du * gates[n];
      h[n + 1] = decay[n + 1] * h[n + 1] + du * gates[n + 1];
      y0 += h[n] * gates[N + n];
      y1 += h[n + 1] * gates[N + n + 1];
    }
    float* y = d.y + token * E + e;
    store(y, load(y) + (y0 + y1));
  }
}

// Working memory of one thread in the backward pass.
struct Scratch {
  std::vector<float> h, a, dB, dC, dR, carry, dA2, dW, dbias, dD;
  Scratch(int64_t E, int rank)
      : h((CHUNK + 1) * N * LANES), a(CHUNK * N * LANES), dB(CHUNK * N * LANES), dC(CHUNK * N * LANES),
        dR(CHUNK * std::max(rank, 1) * LANES), carry(N * E) {}
};

template <bool POWERS, bool WANTS_DA>
void backward_chunk_block(const Direction& d, Scratch& w, int64_t sample, int64_t L, int64_t E, int64_t e,
                          int64_t begin, int64_t end) {
  const int64_t chunks = (L + CHUNK - 1) / CHUNK;
  const int R = d.rank;
  float* h = w.h.data();
  float* a = w.a.data();
  Step steps[CHUNK];
  V A2[N];
  for (int n = 0; n < N; ++n) A2[n] = load(d.A2 + n * E + e);
  for (int n = 0; n < N; ++n)
    store(h + n * LANES, load(d.checkpoints + ((sample * chunks + begin / CHUNK) * N + n) * E + e));
  for (int64_t l = begin; l < end; ++l) {  // states of the chunk, h[0] being the one before it
    const int64_t i = l - begin, token = sample * L + d.order[l];
    const float* gates = d.proj + token * d.proj_stride + R;
    const Step step = steps[i] = step_size(d, token, E, e);
    const V du = step.delta * step.s;
    V decay[N];
    step_decays<POWERS>(step.delta, A2, decay);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      store(a + (i * N + n) * LANES, decay[n]);
      store(h + ((i + 1) * N + n) * LANES, decay[n] * load(h + (i * N + n) * LANES) + du * gates[n]);
    }
  }
  V dh[N], dA[N];
  for (int n = 0; n < N; ++n) {
    dh[n] = load(w.carry.data() + n * E + e);
    if (WANTS_DA) dA[n] = load(d.dA2 + (sample * N + n) * E + e);
  }
  const V D = load(d.D + e);
  V dD = load(d.dD + sample * E + e), dbias = load(d.ddt_bias + sample * E + e);
  for (int64_t l = end - 1; l >= begin; --l) {
    const int64_t i = l - begin, token = sample * L + d.order[l];
    const float* gates = d.proj + token * d.proj_stride + R;
    const Step step = steps[i];
    const V dy = load(d.dy + token * E + e), du = step.delta * step.s;
    V ddu0 = V{}, ddelta0 = V{};  // gradients of delta * s and of delta * A2 summed over states
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      float* dB = w.dB.data() + (i * N + n) * LANES;
      float* dC = w.dC.data() + (i * N + n) * LANES;
      store(dC, load(dC) + load(h + ((i + 1) * N + n) * LANES) * dy);
      const V g = dh[n] + dy * gates[N + n];
      store(dB, load(dB) + g * du);
      ddu0 += g * gates[n];
      dh[n] = g * load(a + (i * N + n) * LANES);
      const V ddecay = dh[n] * load(h + (i * N + n) * LANES);  // d(loss) / d(delta * A), for A2 without its log2 factor
      if (WANTS_DA) dA[n] += ddecay * step.delta;
      ddelta0 += ddecay * A2[n];
    }
    const V ddelta = ddelta0 * (1 / LOG2E) + ddu0 * step.s;
    float* dsource = d.dsource + token * E + e;
    store(dsource, load(dsource) + (ddu0 * step.delta + D * dy));
    dD += dy * step.s;
    // d softplus(x) / dx = 1 - exp(-softplus(x)), which is 1 in float32 above 20
    const V draw = d.softplus ? ddelta * (1.0f - exp2(step.delta * -LOG2E)) : ddelta;
    dbias += draw;
    if (d.ddelta) store(d.ddelta + token * E + e, draw);
    const float* proj = d.proj + token * d.proj_stride;
    for (int r = 0; r < R; ++r) {
      float* dR = w.dR.data() + (i * R + r) * LANES;
      store(dR, load(dR) + draw * load(d.dt_weight + r * E + e));
      float* dW = d.ddt_weight + (sample * R + r) * E + e;
      store(dW, load(dW) + draw * proj[r]);
    }
  }
  for (int n = 0; n < N; ++n) {
    store(w.carry.data() + n * E + e, dh[n]);
    if (WANTS_DA) store(d.dA2 + (sample * N + n) * E + e, dA[n]);
  }
  store(d.dD + sample * E + e, dD);
  store(d.ddt_bias + sample * E + e, dbias);
}

void backward_sample(const Direction& d, int64_t sample, int64_t L, int64_t E) {
  const int R = d.rank;
  Scratch w(E, R);
  auto zero = [](float* p, int64_t count) { std::memset(p, 0, count * sizeof(float)); };
  if (d.dA2) zero(d.dA2 + sample * N * E, N * E);
  zero(d.ddt_weight + sample * R * E, R * E);
  zero(d.ddt_bias + sample * E, E);
  zero(d.dD + sample * E, E);
  for (int64_t chunk = (L + CHUNK - 1) / CHUNK - 1; chunk >= 0; --chunk) {
    const int64_t begin = chunk * CHUNK, end = std::min(begin + CHUNK, L);
    std::fill(w.dB.begin(), w.dB.end(), 0.0f);
    std::fill(w.dC.begin(), w.dC.end(), 0.0f);
    std::fill(w.dR.begin(), w.dR.end(), 0.0f);
    for (int64_t e = 0; e < E; e += LANES) {
      const auto run = has_power_decays(d, E, e)
                           ? (d.dA2 ? backward_chunk_block<true, true> : backward_chunk_block<true, false>)
                           : (d.dA2 ? backward_chunk_block<false, true> : backward_chunk_block<false, false>);
      run(d, w, sample, L, E, e, begin, end);
    }
    for (int64_t l = begin; l < end; ++l) {
      const int64_t i = l - begin;
      float* dproj = d.dproj + (sample * L + d.order[l]) * d.proj_stride;
      for (int r = 0; r < R; ++r) dproj[r] = sum(load(w.dR.data() + (i * R + r) * LANES));
      for (int n = 0; n < N; ++n) {
        dproj[R + n] = sum(load(w.dB.data() + (i * N + n) * LANES));
        dproj[R + N + n] = sum(load(w.dC.data() + (i * N + n) * LANES));
      }
    }
  }
}

template <typename Work>
void parallel(int64_t items, int num_threads, Work work) {
  std::atomic<int64_t> next{0};
  auto run = [&] {
    for (int64_t item; (item = next.fetch_add(1)) < items;) work(item);
  };
  std::vector<std::thread> threads;
  const int64_t extra = std::min<int64_t>(num_threads, items) - 1;
  for (int64_t i = 0; i < extra; ++i) threads.emplace_back(run);
  run();
  for (auto& thread : threads) thread.join();
}

}  // namespace

extern "C" {

// The file this was compiled from: Python refuses a kernel that is older than its source.
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
  const int64_t blocks = E / LANES;
  parallel(B * blocks, num_threads, [&](int64_t item) {
    for (int k = 0; k < count; ++k) {
      const int64_t e = item % blocks * LANES;
      const auto run = has_power_decays(directions[k], E, e) ? forward_block<true> : forward_block<false>;
      run(directions[k], item / blocks, L, E, e);
    }
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
