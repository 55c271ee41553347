#include "estimate/survival_curve.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <vector>

#include "estimate/builders.h"

using namespace blendserve;

namespace {

struct Snapshot {
  LifeTable table;
  double finished_mean = 0.0;
};

// Requests that started evenly over `window` steps, seen at its end: the long ones are still running.
Snapshot snapshot_of(int count, double window, const std::function<double()>& draw_len, Draws& draws) {
  Snapshot snapshot;
  double sum = 0.0;
  double num_finished = 0.0;
  for (int i = 0; i < count; ++i) {
    const double age = window * draws.uniform();
    const double len = draw_len();
    if (len > age) {
      snapshot.table.add_censored(age);
      continue;
    }
    snapshot.table.add_finished(len);
    sum += len;
    num_finished += 1.0;
  }
  snapshot.finished_mean = sum / num_finished;
  return snapshot;
}

struct Life {
  double time;
  bool has_ended;
};

// The slow, obvious reference: the product-limit mean over single times. The longest must have ended.
double naive_mean(std::vector<Life> lives) {
  std::ranges::sort(lives, {}, &Life::time);
  double mean = 0.0;
  double survival = 1.0;
  for (std::size_t i = 0; i < lives.size(); ++i) {
    if (!lives[i].has_ended) continue;
    const double share = survival / static_cast<double>(lives.size() - i);
    mean += share * lives[i].time;
    survival -= share;
  }
  return mean;
}

}  // namespace

TEST_CASE("buckets cover all lengths, and none is wider than an eighth of where it begins") {
  CHECK(LengthBuckets::of(0.0) == 0);
  CHECK(LengthBuckets::of(1e300) == LengthBuckets::kCount - 1);
  CHECK(LengthBuckets::begin(80) == 1.0);
  for (int bucket = 1; bucket < LengthBuckets::kCount; ++bucket) {
    const double begin = LengthBuckets::begin(bucket);
    CHECK(LengthBuckets::of(std::nextafter(begin, 0.0)) == bucket - 1);
    CHECK(LengthBuckets::of(std::nextafter(begin, 1e9)) == bucket);
    CHECK(LengthBuckets::end(bucket) - begin <= begin / 8.0);
  }
}

TEST_CASE("without censoring the moments are those of the lengths") {
  LifeTable table;
  for (const double len : {3.0, 7.0, 7.0, 100.0, 2000.0}) table.add_finished(len);
  const auto curve = SurvivalCurve::kaplan_meier(table);
  CHECK(curve.moments().mean == Approx(2117.0 / 5.0));
  CHECK(curve.moments().second_moment == Approx((9.0 + 49.0 + 49.0 + 1e4 + 4e6) / 5.0));
  CHECK(curve.moments_beyond(50.0).mean == Approx(1050.0));
  CHECK(curve.moments_beyond(500.0).second_moment == Approx(4e6));
  CHECK(curve.quantile(0.5) == Approx(7.0).epsilon(0.13));
  CHECK(curve.quantile(0.9) == Approx(2000.0).epsilon(0.13));
  CHECK(curve.moments_beyond(5000.0).mean > 5000.0);
  CHECK(curve.moments_beyond(5000.0).mean < 5000.0 * 1.13);
}

TEST_CASE("Kaplan and Meier by hand") {
  LifeTable table;
  table.add_finished(1.0);
  table.add_censored(2.0);
  table.add_finished(4.0);
  table.add_finished(8.0);
  // 1/4 end at 1; the censored one is not at risk at 4, so 3/8 end there, and 3/8 at 8.
  CHECK(SurvivalCurve::kaplan_meier(table).moments().mean == Approx(0.25 * 1.0 + 0.375 * 4.0 + 0.375 * 8.0));
}

TEST_CASE("random curves agree with the product limit over single times") {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Draws draws(seed);
    std::vector<Life> lives;
    LifeTable table;
    for (int i = 0; i < 1000; ++i) {
      const double len = draws.exponential(100.0);
      const double age = draws.exponential(seed % 2 ? 300.0 : 600.0);
      lives.push_back({std::min(len, age), len <= age});
    }
    lives.push_back({2000.0, true});
    for (const Life& life : lives) life.has_ended ? table.add_finished(life.time) : table.add_censored(life.time);
    CHECK(SurvivalCurve::kaplan_meier(table).moments().mean == Approx(naive_mean(lives)).epsilon(0.03));
  }
}

TEST_CASE("an undetermined tail goes on at the hazard so far") {
  LifeTable table;
  for (int i = 0; i < 60; ++i) table.add_finished(100.0 * (i + 0.5) / 60.0);
  for (int i = 0; i < 40; ++i) table.add_censored(100.0);
  const double rate = -std::log(0.4) / LengthBuckets::end(LengthBuckets::of(100.0));
  const auto curve = SurvivalCurve::kaplan_meier(table);
  CHECK(curve.moments_beyond(110.0).mean == Approx(110.0 + 1.0 / rate).epsilon(0.03));
  LifeTable only_running;
  only_running.add_censored(50.0);
  CHECK(SurvivalCurve::kaplan_meier(only_running).moments().mean == Approx(150.0).epsilon(0.1));
}

TEST_CASE("a lognormal has the moments it was given") {
  const auto curve = SurvivalCurve::lognormal({300.0, 2.0 * 300.0 * 300.0});
  CHECK(curve.moments().mean == Approx(300.0).epsilon(0.005));
  CHECK(curve.moments().second_moment == Approx(180'000.0).epsilon(0.02));
  CHECK(curve.quantile(0.5) == Approx(300.0 / std::sqrt(2.0)).epsilon(0.02));
  CHECK(curve.moments_beyond(1000.0).mean > 1300.0);
}

TEST_CASE("a shrunk curve starts as its reference and ends as its evidence") {
  const auto reference = SurvivalCurve::lognormal({100.0, 15'000.0});
  CHECK(SurvivalCurve::shrunk({}, reference, 4.0).moments().mean == Approx(reference.moments().mean));
  LifeTable table;
  double last = reference.moments().mean;
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 20; ++i) table.add_finished(500.0 + i);
    const double mean = SurvivalCurve::shrunk(table, reference, 4.0).moments().mean;
    CHECK(mean > last);
    last = mean;
  }
  CHECK(last > 400.0);
}

TEST_CASE("censored estimates beat the mean of what finished, for exponential and lognormal lengths") {
  const double sigma = 1.0;
  for (const bool is_lognormal : {false, true}) {
    double error_curve = 0.0;
    double error_finished = 0.0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      Draws draws(seed);
      const auto draw_len = [&] {
        return is_lognormal ? 300.0 * std::exp(sigma * draws.normal() - sigma * sigma / 2.0) : draws.exponential(300.0);
      };
      const Snapshot snapshot = snapshot_of(2000, 600.0, draw_len, draws);
      CHECK(snapshot.finished_mean < 0.75 * 300.0);
      error_curve += std::abs(SurvivalCurve::kaplan_meier(snapshot.table).moments().mean - 300.0);
      error_finished += std::abs(snapshot.finished_mean - 300.0);
    }
    INFO("lognormal " << is_lognormal << ": " << error_curve / 20.0 << " against " << error_finished / 20.0);
    CHECK(error_curve < error_finished / 3.0);
  }
}

TEST_CASE("the conditional mean agrees with drawn lengths") {
  Draws draws(5);
  LifeTable table;
  std::vector<double> lengths;
  for (int i = 0; i < 50'000; ++i) {
    lengths.push_back(200.0 * std::exp(0.8 * draws.normal()));
    table.add_finished(lengths.back());
  }
  const auto curve = SurvivalCurve::kaplan_meier(table);
  for (const double age : {0.0, 50.0, 333.0, 1000.0}) {
    double sum = 0.0;
    double count = 0.0;
    for (const double len : lengths) {
      if (len <= age) continue;
      sum += len;
      count += 1.0;
    }
    CHECK(curve.moments_beyond(age).mean == Approx(sum / count).epsilon(0.01));
  }
}
