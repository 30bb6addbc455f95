// Vectors of as many floats as the instruction set has lanes, and work on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

namespace {  // one copy per file that includes this

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
  const V f = x - k, f2 = f * f;
  const V high = (f * 1.32647271e-3f + 9.67151265e-3f) * f2 + (f * 5.55073374e-2f + 2.40222421e-1f);
  const V p = high * f2 + (f * 6.93146978e-1f + 1.0f);
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, k);
#else
  return (V)((I)p + ((I)shifted << 23));
#endif
}

constexpr float LOG2E = 1.44269504f;

// log(1 + e) for e in [0, 1]: e times a polynomial of degree 8, relative error 1.9e-7 in float32.
inline V log1p(V e) {
  const V e2 = e * e, e4 = e2 * e2;
  const V low = (e * -4.99995023e-1f + 1.0f) + e2 * (e * -2.48443693e-1f + 3.33192706e-1f);
  const V high = (e * -1.36747703e-1f + 1.91114306e-1f) + e2 * (e * -2.95885075e-2f + 7.83616677e-2f);
  return e * (low + e4 * (high + e4 * 5.25345793e-3f));
}

// 1 / (1 + exp(-x))
inline V sigmoid(V x) { return 1.0f / (exp2(vmax(x, splat(-87.0f)) * -LOG2E) + 1.0f); }

// Sums over the lanes of four vectors.
inline void sum4(const V* vectors, float* sums) {
#if defined(__SSE2__)
  __m128 s[4];
  for (int i = 0; i < 4; ++i) {
    const float* p = reinterpret_cast<const float*>(vectors + i);
    s[i] = _mm_loadu_ps(p);
    for (int j = 4; j < LANES; j += 4) s[i] = _mm_add_ps(s[i], _mm_loadu_ps(p + j));
  }
  _MM_TRANSPOSE4_PS(s[0], s[1], s[2], s[3]);
  _mm_storeu_ps(sums, _mm_add_ps(_mm_add_ps(s[0], s[1]), _mm_add_ps(s[2], s[3])));
#else
  for (int i = 0; i < 4; ++i) sums[i] = sum(vectors[i]);
#endif
}

// While it lives, this thread takes numbers below 1e-38 for 0. States decay that far all the time, and arithmetic with
// such numbers takes a hundred times as long: a training step of trained weights was twice as slow.
struct NoDenormals {
#if defined(__SSE2__)
  const unsigned before = _mm_getcsr();
  NoDenormals() { _mm_setcsr(before | 0x8040); }  // flush results to zero, take inputs for zero
  ~NoDenormals() { _mm_setcsr(before); }
#endif
};

// Calls work(item) for every item below ``items``, on up to ``num_threads`` threads.
template <typename Work>
void parallel(int64_t items, int num_threads, Work work) {
  std::atomic<int64_t> next{0};
  auto run = [&] {
    const NoDenormals fast;
    for (int64_t item; (item = next.fetch_add(1)) < items;) work(item);
  };
  std::vector<std::thread> threads;
  const int64_t extra = std::min<int64_t>(num_threads, items) - 1;
  for (int64_t i = 0; i < extra; ++i) threads.emplace_back(run);
  run();
  for (auto& thread : threads) thread.join();
}

}  // namespace
