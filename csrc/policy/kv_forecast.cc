#include "policy/kv_forecast.h"

namespace blendserve {

KvCourse KvCourse::known(double len, double num_steps) {
  KvCourse course;
  for (std::size_t bin = 0; bin < Horizon::kBins && Horizon::begin(bin) < num_steps; ++bin) {
    course.held[bin] = len + std::min(num_steps, Horizon::end(bin));
    course.variance[bin] = 0.0;
    course.alive[bin] = std::min(1.0, (num_steps - Horizon::begin(bin)) / Horizon::width(bin));
    course.num_bins = bin + 1;
  }
  return course;
}

void KvForecast::add(const KvCourse& course) {
  for (std::size_t bin = 0; bin < course.num_bins; ++bin) {
    held_[bin] += course.held[bin];
    variance_[bin] += course.variance[bin];
    alive_[bin] += course.alive[bin];
  }
}

bool KvForecast::has_room_for(const KvCourse& course, double limit, double safety) const {
  for (std::size_t bin = 0; bin < course.num_bins; ++bin) {
    const double room = limit - held_[bin] - course.held[bin];
    if (room < 0 || room * room < safety * safety * (variance_[bin] + course.variance[bin])) return false;
  }
  return true;
}

double KvForecast::decode_steps() const {
  double steps = 0;
  for (std::size_t bin = 0; bin < Horizon::kBins; ++bin) steps += alive_[bin] * Horizon::width(bin);
  return steps;
}

}  // namespace blendserve
