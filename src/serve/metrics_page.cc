#include "serve/metrics_page.h"

#include "monitor/exposition.h"
#include "monitor/process.h"

namespace selvage::serve {
namespace {

using infer::ModelStatistics;
using monitor::Exposition;
using monitor::Kind;

monitor::Labels labels_of(const ModelStatistics& of) {
  return {{"model", of.model}, {"version", of.version}};
}

template <typename Value>
void family(Exposition& page, const std::vector<ModelStatistics>& all, std::string_view name,
            Kind kind, std::string_view help, Value value) {
  page.family(name, kind, help);
  for (const auto& of : all) page.sample(labels_of(of), value(of));
}

void failures(Exposition& page, const std::vector<ModelStatistics>& all) {
  page.family("nv_inference_request_failure", Kind::kCounter, "Failed inference requests");
  for (const auto& of : all)
    for (std::size_t i = 0; i < infer::kFailureReasonCount; ++i) {
      auto labels = labels_of(of);
      labels.emplace_back("reason", to_string(static_cast<infer::FailureReason>(i)));
      page.sample(labels, of.failures[i]);
    }
}

template <typename Times>
void histogram(Exposition& page, const std::vector<ModelStatistics>& all, std::string_view name,
               std::string_view help, Times times) {
  page.family(name, Kind::kHistogram, help);
  for (const auto& of : all) page.histogram(labels_of(of), times(of));
}

std::uint64_t microseconds(const infer::DurationCount& duration) {
  return duration.ns / 1000;
}

}  // namespace

std::string metrics_page(const std::vector<ModelStatistics>& all) {
  Exposition page;
  const auto counter = [&](std::string_view name, std::string_view help, auto value) {
    family(page, all, name, Kind::kCounter, help, value);
  };
  counter("nv_inference_request_success", "Successful inference requests",
          [](const auto& of) { return of.success.count; });
  failures(page, all);
  counter("nv_inference_count", "Inferences performed; a batch of n counts n",
          [](const auto& of) { return of.inference_count; });
  counter("nv_inference_exec_count", "Model executions, one a batch",
          [](const auto& of) { return of.execution_count; });
  counter("nv_inference_request_duration_us", "Cumulative time of requests in microseconds",
          [](const auto& of) { return microseconds(of.success); });
  counter("nv_inference_queue_duration_us", "Cumulative time in the queue in microseconds",
          [](const auto& of) { return microseconds(of.queue); });
  counter("nv_inference_compute_input_duration_us", "Cumulative input time in microseconds",
          [](const auto& of) { return microseconds(of.compute_input); });
  counter("nv_inference_compute_infer_duration_us", "Cumulative inference time in microseconds",
          [](const auto& of) { return microseconds(of.compute_infer); });
  counter("nv_inference_compute_output_duration_us", "Cumulative output time in microseconds",
          [](const auto& of) { return microseconds(of.compute_output); });
  family(page, all, "nv_inference_pending_request_count", Kind::kGauge,
         "Requests that wait in the queue", [](const auto& of) { return of.pending; });
  histogram(page, all, "selvage_inference_queue_seconds", "Time of requests in the queue",
            [](const auto& of) -> const auto& { return of.queue_times; });
  histogram(page, all, "selvage_inference_compute_seconds", "Time of executions",
            [](const auto& of) -> const auto& { return of.compute_times; });
  histogram(page, all, "selvage_inference_request_seconds", "Time of requests in all",
            [](const auto& of) -> const auto& { return of.total_times; });
  monitor::write_process(page);
  return std::move(page).take();
}

}  // namespace selvage::serve
