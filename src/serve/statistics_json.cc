#include "serve/statistics_json.h"

namespace selvage::serve {
namespace {

void write(std::string_view key, const infer::DurationCount& duration, JsonWriter& json) {
  json.key(key).begin_object().field("count", duration.count).field("ns", duration.ns).end_object();
}

void write(const infer::ModelStatistics& of, JsonWriter& json) {
  json.begin_object().field("name", of.model).field("version", of.version);
  json.field("last_inference", of.last_inference_ms);
  json.field("inference_count", of.inference_count).field("execution_count", of.execution_count);
  json.key("inference_stats").begin_object();
  write("success", of.success, json);
  write("fail", of.fail, json);
  write("queue", of.queue, json);
  write("compute_input", of.compute_input, json);
  write("compute_infer", of.compute_infer, json);
  write("compute_output", of.compute_output, json);
  write("cache_hit", of.cache_hit, json);
  write("cache_miss", of.cache_miss, json);
  json.end_object().key("response_stats").begin_object().end_object();
  json.key("batch_stats").begin_array();
  for (const auto& batch : of.batch_stats) {
    json.begin_object().field("batch_size", batch.batch_size);
    write("compute_input", batch.compute_input, json);
    write("compute_infer", batch.compute_infer, json);
    write("compute_output", batch.compute_output, json);
    json.end_object();
  }
  json.end_array().key("memory_usage").begin_array().end_array().end_object();
}

}  // namespace

void write_json(const std::vector<infer::ModelStatistics>& all, JsonWriter& json) {
  json.begin_object().key("model_stats").begin_array();
  for (const auto& of : all) write(of, json);
  json.end_array().end_object();
}

}  // namespace selvage::serve
