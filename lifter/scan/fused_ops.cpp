// What surrounds the scans in a block, each in one pass over the tokens: the 3x3 depthwise convolution with SiLU before
// them, the norm with its gate behind them; forward and backward. All arrays float32; E channels, a multiple of 16.

#include <cmath>
#include <cstring>

#include "vectors.h"

namespace {

// The neighbors of token (t, j) that a 3x3 kernel sees: offsets from the token in tokens, and which of the 9 taps.
struct Neighbors {
  int count = 0;
  int64_t offset[9];
  int tap[9];
  Neighbors(int64_t t, int64_t j, int64_t T, int64_t J) {
    for (int dt = -1; dt <= 1; ++dt)
      for (int dj = -1; dj <= 1; ++dj)
        if (t + dt >= 0 && t + dt < T && j + dj >= 0 && j + dj < J) {
          offset[count] = dt * J + dj;
          tap[count++] = (dt + 1) * 3 + dj + 1;
        }
  }
};

// bias + sum over neighbors of tap * x; ``mirrored`` takes the tap of the opposite neighbor.
inline V convolved(const Neighbors& near, const float* x, int64_t stride, const float* taps, bool mirrored, int64_t E,
                   int64_t e, V total) {
  for (int i = 0; i < near.count; ++i) {
    const int tap = mirrored ? 8 - near.tap[i] : near.tap[i];
    total += load(x + near.offset[i] * stride + e) * load(taps + tap * E + e);
  }
  return total;
}

}  // namespace

extern "C" {

// y (B, T, J, E) = SiLU(convolution of x + bias); x (B, T, J, E) with ``stride`` floats from token to token, taps (9, E).
void grid_conv_forward(const float* x, int64_t stride, const float* taps, const float* bias, float* y, int64_t B,
                       int64_t T, int64_t J, int64_t E, int num_threads) {
  parallel(B * T, num_threads, [&](int64_t frame) {
    for (int64_t j = 0; j < J; ++j) {
      const Neighbors near(frame % T, j, T, J);
      const int64_t token = frame * J + j;
      for (int64_t e = 0; e < E; e += LANES) {
        const V p = convolved(near, x + token * stride, stride, taps, false, E, e, load(bias + e));
        store(y + token * E + e, p * sigmoid(p));
      }
    }
  });
}

// Gradients: dx (B, T, J, E), dtaps (B, 9, E), dbias (B, E), the caller sums over samples; scratch (B, T, J, E).
void grid_conv_backward(const float* x, int64_t stride, const float* taps, const float* bias, const float* dy, float* dx,
                        float* dtaps, float* dbias, float* scratch, int64_t B, int64_t T, int64_t J, int64_t E,
                        int num_threads) {
  parallel(B * T, num_threads, [&](int64_t frame) {  // gradient before the SiLU, into scratch
    for (int64_t j = 0; j < J; ++j) {
      const Neighbors near(frame % T, j, T, J);
      const int64_t token = frame * J + j;
      for (int64_t e = 0; e < E; e += LANES) {
        const V p = convolved(near, x + token * stride, stride, taps, false, E, e, load(bias + e)), s = sigmoid(p);
        store(scratch + token * E + e, load(dy + token * E + e) * s * (p * (1.0f - s) + 1.0f));
      }
    }
  });
  parallel(B * T, num_threads, [&](int64_t frame) {
    for (int64_t j = 0; j < J; ++j) {
      const Neighbors near(frame % T, j, T, J);
      const int64_t token = frame * J + j;
      for (int64_t e = 0; e < E; e += LANES)
        store(dx + token * E + e, convolved(near, scratch + token * E, E, taps, true, E, e, V{}));
    }
  });
  parallel(B, num_threads, [&](int64_t sample) {
    const int64_t first = sample * T * J;
    std::memset(dtaps + sample * 9 * E, 0, 9 * E * sizeof(float));
    std::memset(dbias + sample * E, 0, E * sizeof(float));
    for (int64_t t = 0; t < T; ++t)
      for (int64_t e = 0; e < E; e += LANES) {
        V total = load(dbias + sample * E + e);
        for (int64_t j = 0; j < J; ++j) total += load(scratch + (first + t * J + j) * E + e);
        store(dbias + sample * E + e, total);
        for (int64_t dt = t > 0 ? -1 : 0; dt <= (t + 1 < T ? 1 : 0); ++dt)
          for (int64_t dj = -1; dj <= 1; ++dj) {
            float* sums = dtaps + (sample * 9 + (dt + 1) * 3 + dj + 1) * E + e;
            V taken = load(sums);
            for (int64_t j = dj < 0 ? 1 : 0; j < (dj > 0 ? J - 1 : J); ++j) {
              const int64_t token = first + t * J + j;
              taken += load(x + (token + dt * J + dj) * stride + e) * load(scratch + token * E + e);
            }
            store(sums, taken);
          }
      }
  });
}

constexpr int64_t ROWS = 64;  // that a thread takes at once

// out (rows, E) = LayerNorm(y) * SiLU(z); y (rows, E), z (rows, E) with ``stride`` floats from row to row.
void gated_norm_forward(const float* y, const float* z, int64_t stride, const float* weight, const float* bias, float eps,
                        float* out, int64_t rows, int64_t E, int num_threads) {
  parallel((rows + ROWS - 1) / ROWS, num_threads, [&](int64_t part) {
    for (int64_t row = part * ROWS; row < std::min(rows, (part + 1) * ROWS); ++row) {
      const float *in = y + row * E, *gate = z + row * stride;
      V total = V{}, square = V{};
      for (int64_t e = 0; e < E; e += LANES) total += load(in + e);
      const float mean = sum(total) / E;
      for (int64_t e = 0; e < E; e += LANES) square += (load(in + e) - mean) * (load(in + e) - mean);
      const float scale = 1 / std::sqrt(sum(square) / E + eps);
      for (int64_t e = 0; e < E; e += LANES) {
        const V g = load(gate + e), normed = (load(in + e) - mean) * scale * load(weight + e) + load(bias + e);
        store(out + row * E + e, normed * g * sigmoid(g));
      }
    }
  });
}

// Gradients: dy, dz (rows, E), and per part of the rows dweight, dbias (parts, E): the caller sums them.
void gated_norm_backward(const float* y, const float* z, int64_t stride, const float* weight, const float* bias,
                         float eps, const float* dout, float* dy, float* dz, float* dweight, float* dbias, int64_t rows,
                         int64_t E, int64_t parts, int num_threads) {
  parallel(parts, num_threads, [&](int64_t part) {
    std::vector<float> direct(E);
    float *dw = dweight + part * E, *db = dbias + part * E;
    std::memset(dw, 0, E * sizeof(float));
    std::memset(db, 0, E * sizeof(float));
    for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row) {
      const float *in = y + row * E, *gate = z + row * stride, *d = dout + row * E;
      V total = V{}, square = V{};
      for (int64_t e = 0; e < E; e += LANES) total += load(in + e);
      const float mean = sum(total) / E;
      for (int64_t e = 0; e < E; e += LANES) square += (load(in + e) - mean) * (load(in + e) - mean);
      const float scale = 1 / std::sqrt(sum(square) / E + eps);
      V sum_direct = V{}, sum_along = V{};
      for (int64_t e = 0; e < E; e += LANES) {
        const V g = load(gate + e), s = sigmoid(g), silu = g * s, w = load(weight + e), grad = load(d + e);
        const V hat = (load(in + e) - mean) * scale, dnormed = grad * silu;
        store(dz + row * E + e, grad * (hat * w + load(bias + e)) * (s + silu * (1.0f - s)));
        store(dw + e, load(dw + e) + dnormed * hat);
        store(db + e, load(db + e) + dnormed);
        const V dhat = dnormed * w;
        store(direct.data() + e, dhat);
        sum_direct += dhat;
        sum_along += dhat * hat;
      }
      const float mean_direct = sum(sum_direct) / E, mean_along = sum(sum_along) / E;
      for (int64_t e = 0; e < E; e += LANES) {
        const V hat = (load(in + e) - mean) * scale;
        store(dy + row * E + e, (load(direct.data() + e) - mean_direct - hat * mean_along) * scale);
      }
    }
  });
}

}  // extern "C"
