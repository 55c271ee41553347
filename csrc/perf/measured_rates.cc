#include "perf/measured_rates.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "perf/checks.h"

namespace blendserve {
namespace {

double time_of(const RatePoint& point) { return 2 * point.rows / point.flops; }

}  // namespace

void RateCurve::validate(const char* field) const {
  const std::string name(field);
  require(!points_.empty(), field, "empty", "a list of [rows, FLOP/s] with at least one point");
  for (const RatePoint& point : points_) {
    require_positive((name + " rows").c_str(), point.rows);
    require_positive((name + " FLOP/s").c_str(), point.flops);
  }
  for (std::size_t i = 1; i < points_.size(); ++i) {
    require(points_[i].rows > points_[i - 1].rows, (name + " rows").c_str(), points_[i].rows,
            "more than those of the point before");
    require(time_of(points_[i]) >= time_of(points_[i - 1]), (name + " FLOP/s").c_str(), points_[i].flops,
            "so low that more rows take no less time");
  }
}

double RateCurve::weight_s(double rows) const {
  if (rows <= points_.front().rows) return time_of(points_.front());
  const auto above = std::ranges::find_if(points_, [&](const RatePoint& point) { return point.rows >= rows; });
  if (above == points_.end()) return 2 * rows / points_.back().flops;
  const RatePoint& below = *(above - 1);
  const double share = (rows - below.rows) / (above->rows - below.rows);
  return time_of(below) + share * (time_of(*above) - time_of(below));
}

double RateCurve::best_flops() const { return std::ranges::max(points_, {}, &RatePoint::flops).flops; }

double RateCurve::wide_rows(double tolerance) const {
  const double enough = best_flops() / (1 + tolerance);
  return std::ranges::find_if(points_, [&](const RatePoint& point) { return point.flops >= enough; })->rows;
}

void MeasuredRates::validate() const {
  require_element_bytes("element_bytes", element_bytes);
  layers.validate("layers");
  head.validate("head");
  require_positive("prefill_attention_flops", prefill_attention_flops);
  require_positive("decode_attention_bandwidth", decode_attention_bandwidth);
  require(std::isfinite(step_s) && step_s >= 0, "step_s", step_s, "0 or more and finite");
}

}  // namespace blendserve
