#include "plan/dual_scan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "perf/memory_partition.h"
#include "plan/scan_units.h"
#include "planned_job.h"

using namespace blendserve;

namespace {

// `num_dense` requests of 100 prompt tokens and one output token, then `num_sparse` of one prompt token and 200
// outputs: with simple_model() they take 101 s of compute and 1.005 s of memory time, 201 s and 202 s. Nothing is
// shared.
struct TwoClasses {
  PlannedJob job;
  std::vector<ScanUnit> units;

  TwoClasses(int num_dense, int num_sparse)
      : job(prompts_of(num_dense, num_sparse), lens_of(num_dense, num_sparse)),
        units((job.sort(), scan_units(job.planned))) {}

  DualScan scan(double capacity) const { return {job.planned, units, job.model, capacity}; }
  double root_density() const { return job.planned.total().density(); }

  static Prompts prompts_of(int num_dense, int num_sparse) {
    Prompts prompts;
    for (Token i = 0; i < num_dense + num_sparse; ++i) prompts.emplace_back(i < num_dense ? 100 : 1, i);
    return prompts;
  }
  static std::vector<double> lens_of(int num_dense, int num_sparse) {
    std::vector<double> lens(static_cast<std::size_t>(num_dense), 1.0);
    lens.resize(static_cast<std::size_t>(num_dense + num_sparse), 200.0);
    return lens;
  }
};

constexpr double kDenseCompute = 101.0;     // s
constexpr double kSparseOccupancy = 101.0;  // tokens: 1 + 200 / 2
const double kDenseDensity = 101.0 / 1.005;
const double kSparseDensity = 201.0 / 202.0;

// Admits what the scan offers until it has nothing more for this step; the leaves that went to each side.
struct Admitted {
  std::vector<std::int32_t> left;
  std::vector<std::int32_t> right;
};

Admitted admit_all(DualScan& scan) {
  Admitted admitted;
  while (const auto candidate = scan.next()) {
    scan.admit(candidate->leaf, candidate->side);
    auto& side = candidate->side == ScanSide::kLeft ? admitted.left : admitted.right;
    side.push_back(candidate->leaf);
  }
  return admitted;
}

}  // namespace

TEST_CASE("the paper's example: 60 GB are divided into 19.4 and 40.6") {
  const MemoryPartition sides = partition(60, 3.73, 0.096, 1.27);
  CHECK(sides.left == Approx(19.4).margin(0.05));
  CHECK(sides.right == Approx(40.6).margin(0.05));
}

TEST_CASE("the right side is filled by mean occupancy up to its share, the left by a step's compute") {
  const TwoClasses classes(400, 300);
  DualScan scan = classes.scan(20'000);
  scan.begin_steps();
  REQUIRE(scan.is_blending());
  const double limit = partition(20'000, kDenseDensity, kSparseDensity, classes.root_density()).right;
  CHECK(scan.right_limit() == Approx(limit));
  // What the left side's memory computes a step, in KV reads of 0.01 s a token.
  const double rate = 0.01 * (20'000 * classes.root_density() - limit * kSparseDensity);
  REQUIRE(rate > kDenseCompute);

  const Admitted admitted = admit_all(scan);
  CHECK(admitted.left.size() == static_cast<std::size_t>(std::ceil(rate / kDenseCompute)));
  CHECK(admitted.right.size() == static_cast<std::size_t>(limit / kSparseOccupancy));
  CHECK(scan.right_charge() == Approx(kSparseOccupancy * static_cast<double>(admitted.right.size())));
  CHECK(scan.right_charge() <= limit);
  CHECK(admitted.left.front() == 0);
  CHECK(admitted.right.front() == 699);
  CHECK(scan.side(0) == ScanSide::kLeft);
  CHECK(scan.side(699) == ScanSide::kRight);
}

TEST_CASE("what the left side admitted beyond a step's compute it waits for, and never saves up more than a step's") {
  const TwoClasses classes(400, 100);
  DualScan scan = classes.scan(800);  // the left side's rate is below one request a step
  scan.begin_steps();
  CHECK(admit_all(scan).left.size() == 1);
  const double wait = scan.steps_until_credit();
  REQUIRE(wait > 1);
  scan.begin_steps(wait - 1);
  CHECK(admit_all(scan).left.empty());
  scan.begin_steps();
  CHECK(admit_all(scan).left.size() == 1);
  scan.begin_steps(1e6);
  CHECK(admit_all(scan).left.size() == 1);
}

TEST_CASE("over many steps the left side's compute is its rate") {
  const TwoClasses classes(400, 100);
  DualScan scan = classes.scan(3000);
  std::size_t num_left = 0;
  double granted = 0;
  for (int step = 0; step < 100; ++step) {
    scan.begin_steps();
    granted += 0.01 * (3000 * classes.root_density() - scan.right_limit() * kSparseDensity);
    num_left += admit_all(scan).left.size();
    REQUIRE(scan.is_blending());
  }
  CHECK(static_cast<double>(num_left) * kDenseCompute == Approx(granted).margin(kDenseCompute));
}

TEST_CASE("a request that ends frees its room, one that outlived its estimate takes the right side's") {
  const TwoClasses classes(400, 100);
  DualScan scan = classes.scan(5000);
  scan.begin_steps();
  Admitted first = admit_all(scan);
  while (first.left.size() < 2) {
    scan.begin_steps();
    const Admitted more = admit_all(scan);
    first.left.insert(first.left.end(), more.left.begin(), more.left.end());
  }
  const double charge = scan.right_charge();
  scan.release(first.right[0]);
  CHECK(scan.side(first.right[0]) == ScanSide::kNone);
  CHECK(scan.right_charge() == Approx(charge - kSparseOccupancy));
  const auto next = scan.next();
  REQUIRE(next.has_value());
  CHECK(next->side == ScanSide::kRight);
  scan.admit(next->leaf, next->side);

  scan.move_to_right(first.left[0]);
  CHECK(scan.side(first.left[0]) == ScanSide::kRight);
  CHECK(scan.right_charge() == Approx(charge + 100 + 1));  // its whole prompt and output
  scan.release(first.left[0]);
  CHECK(scan.right_charge() == Approx(charge));
  scan.release(first.left[1]);  // the left side is charged nothing
  CHECK(scan.right_charge() == Approx(charge));
}

TEST_CASE("a right request larger than the right side's share runs there alone") {
  const TwoClasses classes(400, 100);
  DualScan scan = classes.scan(100);
  scan.begin_steps();
  REQUIRE(scan.right_limit() < kSparseOccupancy);
  CHECK(admit_all(scan).right.size() == 1);
  scan.begin_steps();
  CHECK(admit_all(scan).right.empty());
  scan.release(499);
  CHECK(admit_all(scan).right == std::vector<std::int32_t>{498});
}

TEST_CASE("a request that comes back to its side is no candidate, one that is dropped never is") {
  const TwoClasses classes(4, 2);
  DualScan scan = classes.scan(5000);
  scan.begin_steps();
  scan.admit(5, ScanSide::kRight);
  scan.release(5);
  scan.admit(5, ScanSide::kRight);
  scan.drop(0);
  scan.drop(4);
  std::vector<std::int32_t> offered;
  while (!scan.is_exhausted()) {
    const auto candidate = scan.next();
    REQUIRE(candidate.has_value());
    offered.push_back(candidate->leaf);
    scan.admit(candidate->leaf, candidate->side);
    scan.begin_steps();
  }
  CHECK(offered == std::vector<std::int32_t>{1, 2, 3});
  CHECK(scan.next() == std::nullopt);
}

namespace {

// Steps in which at most `num_per_step` requests start and every request ends two steps later. The order they start in.
std::vector<std::int32_t> drain(DualScan scan, int num_leaves, int num_per_step) {
  std::vector<std::int32_t> order;
  std::vector<std::vector<std::int32_t>> running(3);
  for (int step = 0; !scan.is_exhausted(); ++step) {
    REQUIRE(step < 10'000);
    auto& ending = running[static_cast<std::size_t>(step % 3)];
    for (const std::int32_t leaf : ending) scan.release(leaf);
    ending.clear();
    scan.begin_steps();
    for (int i = 0; i < num_per_step; ++i) {
      const auto candidate = scan.next();
      if (!candidate) break;
      scan.admit(candidate->leaf, candidate->side);
      order.push_back(candidate->leaf);
      running[static_cast<std::size_t>((step + 2) % 3)].push_back(candidate->leaf);
    }
  }
  REQUIRE(static_cast<int>(order.size()) == num_leaves);
  return order;
}

bool is_from_left_to_right(const std::vector<std::int32_t>& order) { return std::ranges::is_sorted(order); }

}  // namespace

TEST_CASE("equal densities, a single request and an exhausted class are taken from the left without a limit") {
  CHECK(is_from_left_to_right(drain(TwoClasses(30, 0).scan(1000), 30, 4)));
  CHECK(is_from_left_to_right(drain(TwoClasses(0, 30).scan(1000), 30, 4)));
  CHECK(drain(TwoClasses(1, 0).scan(1000), 1, 1) == std::vector<std::int32_t>{0});

  const TwoClasses classes(3, 40);
  DualScan scan = classes.scan(5000);
  for (const std::int32_t leaf : {0, 1, 2}) scan.drop(leaf);
  scan.begin_steps();
  CHECK_FALSE(scan.is_blending());
  const Admitted rest = admit_all(scan);
  CHECK(rest.left.size() == 40);
  CHECK(is_from_left_to_right(rest.left));
}

TEST_CASE("requests without memory time are infinitely dense: the right side takes the memory, they their rate") {
  PlannedJob job({{1, 1}, {2, 2}, {3}, {4}}, {0, 0, 100, 100});
  job.sort();
  const auto units = scan_units(job.planned);
  REQUIRE(job.planned.leaf(0).density() == std::numeric_limits<double>::infinity());
  DualScan scan(job.planned, units, job.model, 1000);
  scan.begin_steps();
  CHECK(scan.is_blending());
  CHECK(scan.right_limit() == 1000);
  const Admitted admitted = admit_all(scan);
  CHECK(admitted.left.size() + admitted.right.size() == 4);
  CHECK_FALSE(admitted.right.empty());

  PlannedJob prefill_only({{1}, {2}, {3}}, {0, 0, 0});
  prefill_only.sort();
  const auto all = scan_units(prefill_only.planned);
  CHECK(is_from_left_to_right(drain({prefill_only.planned, all, prefill_only.model, 1000}, 3, 1)));
}

TEST_CASE("where the root's density is outside of the scanners' the memory is not divided") {
  // A shared prefix makes the root denser than its leaves: 1000 tokens are computed once for 40 requests.
  Prompts prompts;
  std::vector<double> lens;
  for (Token i = 0; i < 40; ++i) {
    prompts.emplace_back(1000, 7);
    prompts.back().push_back(i);
    lens.push_back(i < 20 ? 10 : 100);
  }
  PlannedJob job(prompts, lens);
  job.sort();
  const auto units = scan_units(job.planned);
  REQUIRE(units.size() > 1);
  DualScan scan(job.planned, units, job.model, 1000);
  scan.begin_steps();
  const double root = job.planned.total().density();
  CHECK(root > units.front().cost.density());
  CHECK_FALSE(scan.is_blending());
  CHECK(is_from_left_to_right(drain(scan, 40, 3)));
}

TEST_CASE("every leaf is offered once, whatever runs and ends, and the same way again") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    INFO("seed " << seed);
    const auto prompts = random_prompts(seed, 1 + static_cast<int>(seed * 5), seed % 2 ? 6 : 40, seed % 3 ? 2 : 9);
    PlannedJob job(prompts, PlannedJob::random_lengths(seed, prompts.size()), seed % 4 == 0);
    job.sort();
    const auto units = scan_units(job.planned);
    for (const double capacity : {10.0, 300.0, 5000.0}) {
      const DualScan scan(job.planned, units, job.model, capacity);
      const int num_leaves = job.layout().num_leaves();
      auto order = drain(scan, num_leaves, 1 + static_cast<int>(seed % 7));
      CHECK(order == drain(scan, num_leaves, 1 + static_cast<int>(seed % 7)));
      std::ranges::sort(order);
      CHECK(std::ranges::adjacent_find(order) == order.end());
    }
  }
}
