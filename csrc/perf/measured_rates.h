#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace blendserve {

struct RatePoint {
  double rows = 0;
  double flops = 0;  // a second

  bool operator==(const RatePoint&) const = default;
};

// How fast products of weights with a batch of rows are, by its rows. Between the measured points time is linear in the
// rows, as it is where reading the weights binds and where arithmetic does; below the first it is the first's, beyond
// the last the rate is.
class RateCurve {
 public:
  RateCurve() = default;
  explicit RateCurve(std::vector<RatePoint> points) : points_(std::move(points)) {}

  const std::vector<RatePoint>& points() const { return points_; }

  // Throws InvalidInput, naming the `field`, unless there are points, with ever more rows that take ever longer.
  void validate(const char* field) const;

  // Seconds per weight for a batch of so many rows.
  double weight_s(double rows) const;
  double best_flops() const;
  // The fewest measured rows at which a row costs at most `tolerance` more than at the best rate.
  double wide_rows(double tolerance) const;

  bool operator==(const RateCurve&) const = default;

 private:
  std::vector<RatePoint> points_;
};

// What one device was measured to do, in place of what its data sheet promises (docs/performance_model.md). The model
// whose shapes it was measured with need not be the one it is asked about: rates carry over by FLOPs and bytes.
struct MeasuredRates {
  std::int64_t element_bytes = 4;  // of the weights and the KV cache
  RateCurve layers;                // all that the layers do to a row, but for attention, as FLOP/s of their products
  RateCurve head;                  // final norm and LM head
  double prefill_attention_flops = 0;     // of the scores that causality leaves
  double decode_attention_bandwidth = 0;  // B/s of KV
  double step_s = 0;                      // of a step outside the model

  void validate() const;

  bool operator==(const MeasuredRates&) const = default;
};

}  // namespace blendserve
