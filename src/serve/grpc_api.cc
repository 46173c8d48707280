#include "serve/grpc_api.h"

#include <algorithm>
#include <array>

#include "health.pb.h"
#include "inference.pb.h"
#include "serve/grpc_config.h"
#include "serve/grpc_message.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

using Exchange = std::shared_ptr<GrpcExchange>;
using infer::DurationCount;

// The protocol's versions are numbers; another text is a version that does not exist.
Result<void> check_version(const std::string& version) {
  if (version.find_first_not_of("0123456789") == std::string::npos) return {};
  return fail(ErrorCode::kNotFound, "no version '" + version + "': versions are numbers");
}

// A method that answers at once: Result<Reply> function(Services&, const Request&).
template <auto function, typename Request>
void answer(Services& services, grpc::ByteBuffer& buffer, const Exchange& exchange) {
  Request request;
  if (auto parsed = parse_message(buffer, request); !parsed)
    return exchange->reply(std::unexpected(std::move(parsed).error()));
  auto reply = function(services, request);
  if (!reply) return exchange->reply(std::unexpected(std::move(reply).error()));
  exchange->reply(to_buffer(*reply));
}

// The same for one that takes long, off the connections' threads.
template <auto function, typename Request>
void answer_aside(Services& services, grpc::ByteBuffer& buffer, const Exchange& exchange) {
  Tasks::Task task = [&services, buffer, exchange]() mutable {
    reply_if_thrown(*exchange, [&] { answer<function, Request>(services, buffer, exchange); });
  };
  if (!services.decoding.submit(std::move(task)))
    exchange->reply(fail(ErrorCode::kUnavailable, "too many requests wait: try again later"));
}

Result<inference::ServerLiveResponse> server_live(Services&, const inference::ServerLiveRequest&) {
  inference::ServerLiveResponse reply;
  reply.set_live(true);
  return reply;
}

Result<inference::ServerReadyResponse> server_ready(Services& services,
                                                    const inference::ServerReadyRequest&) {
  inference::ServerReadyResponse reply;
  reply.set_ready(services.backend.ready());
  return reply;
}

Result<inference::ModelReadyResponse> model_ready(Services& services,
                                                  const inference::ModelReadyRequest& request) {
  inference::ModelReadyResponse reply;
  reply.set_ready(services.backend.ready(request.name(), request.version()));
  return reply;
}

Result<inference::ServerMetadataResponse> server_metadata(Services& services,
                                                          const inference::ServerMetadataRequest&) {
  inference::ServerMetadataResponse reply;
  reply.set_name(std::string(kServerName));
  reply.set_version(services.version);
  for (const auto name : extensions(services.shared)) reply.add_extensions(std::string(name));
  return reply;
}

void write(const infer::TensorMetadata& from,
           inference::ModelMetadataResponse::TensorMetadata& to) {
  to.set_name(from.name);
  to.set_datatype(std::string(wire_name(from.type)));
  to.mutable_shape()->Add(from.shape.begin(), from.shape.end());
}

Result<inference::ModelMetadataResponse> model_metadata(
    Services& services, const inference::ModelMetadataRequest& request) {
  SELVAGE_RETURN_IF_ERROR(check_version(request.version()));
  SELVAGE_TRY(const auto metadata, services.backend.metadata(request.name(), request.version()));
  inference::ModelMetadataResponse reply;
  reply.set_name(metadata.name);
  for (const auto& version : metadata.versions) reply.add_versions(version);
  reply.set_platform(metadata.platform);
  for (const auto& input : metadata.inputs) write(input, *reply.add_inputs());
  for (const auto& output : metadata.outputs) write(output, *reply.add_outputs());
  return reply;
}

Result<inference::ModelConfigResponse> model_config(Services& services,
                                                    const inference::ModelConfigRequest& request) {
  SELVAGE_RETURN_IF_ERROR(check_version(request.version()));
  SELVAGE_TRY(const auto config, services.backend.config(request.name(), request.version()));
  inference::ModelConfigResponse reply;
  write_config(config, *reply.mutable_config());
  return reply;
}

void write(const DurationCount& from, inference::StatisticDuration* to) {
  to->set_count(from.count);
  to->set_ns(from.ns);
}

void write(const infer::ModelStatistics& from, inference::ModelStatistics& to) {
  to.set_name(from.model);
  to.set_version(from.version);
  to.set_last_inference(from.last_inference_ms);
  to.set_inference_count(from.inference_count);
  to.set_execution_count(from.execution_count);
  auto& stats = *to.mutable_inference_stats();
  write(from.success, stats.mutable_success());
  write(from.fail, stats.mutable_fail());
  write(from.queue, stats.mutable_queue());
  write(from.compute_input, stats.mutable_compute_input());
  write(from.compute_infer, stats.mutable_compute_infer());
  write(from.compute_output, stats.mutable_compute_output());
  write(from.cache_hit, stats.mutable_cache_hit());
  write(from.cache_miss, stats.mutable_cache_miss());
  for (const auto& batch : from.batch_stats) {
    auto& added = *to.add_batch_stats();
    added.set_batch_size(batch.batch_size);
    write(batch.compute_input, added.mutable_compute_input());
    write(batch.compute_infer, added.mutable_compute_infer());
    write(batch.compute_output, added.mutable_compute_output());
  }
}

Result<inference::ModelStatisticsResponse> model_statistics(
    Services& services, const inference::ModelStatisticsRequest& request) {
  SELVAGE_RETURN_IF_ERROR(check_version(request.version()));
  SELVAGE_TRY(const auto all, services.backend.statistics(request.name(), request.version()));
  inference::ModelStatisticsResponse reply;
  for (const auto& of : all) write(of, *reply.add_model_stats());
  return reply;
}

Result<inference::RepositoryIndexResponse> repository_index(
    Services& services, const inference::RepositoryIndexRequest& request) {
  inference::RepositoryIndexResponse reply;
  for (const auto& entry : services.backend.index(request.ready())) {
    auto& added = *reply.add_models();
    added.set_name(entry.name);
    added.set_version(entry.version);
    added.set_state(std::string(to_string(entry.state)));
    added.set_reason(entry.reason);
  }
  return reply;
}

// KServe's clients put the model's name where Triton's have the repository's.
template <typename Request>
const std::string& model_of(const Request& request) {
  return request.model_name().empty() ? request.repository_name() : request.model_name();
}

Result<infer::LoadOverrides> overrides_of(const inference::RepositoryModelLoadRequest& request) {
  constexpr std::string_view kFile = "file:";
  infer::LoadOverrides overrides;
  for (const auto& [name, value] : request.parameters()) {
    if (name == "config" && value.has_string_param()) {
      overrides.config_json = value.string_param();
    } else if (name.starts_with(kFile) && value.has_bytes_param()) {
      const auto bytes = std::as_bytes(std::span(value.bytes_param()));
      overrides.files.push_back({name.substr(kFile.size()), {bytes.begin(), bytes.end()}});
    } else {
      return fail(ErrorCode::kInvalidArgument,
                  "parameter '" + name +
                      "': load takes 'config' as a string and 'file:VERSION/NAME' as bytes");
    }
  }
  return overrides;
}

void load(Services& services, grpc::ByteBuffer& buffer, const Exchange& exchange) {
  inference::RepositoryModelLoadRequest request;
  if (auto parsed = parse_message(buffer, request); !parsed)
    return exchange->reply(std::unexpected(std::move(parsed).error()));
  auto overrides = overrides_of(request);
  if (!overrides) return exchange->reply(std::unexpected(std::move(overrides).error()));
  load_later(services, model_of(request), *std::move(overrides),
             [exchange, model = model_of(request)](Result<void> done) {
               if (!done) return exchange->reply(std::unexpected(std::move(done).error()));
               inference::RepositoryModelLoadResponse reply;
               reply.set_model_name(model);
               reply.set_is_loaded(true);
               exchange->reply(to_buffer(reply));
             });
}

void unload(Services& services, grpc::ByteBuffer& buffer, const Exchange& exchange) {
  inference::RepositoryModelUnloadRequest request;
  if (auto parsed = parse_message(buffer, request); !parsed)
    return exchange->reply(std::unexpected(std::move(parsed).error()));
  const auto flag = request.parameters().find("unload_dependents");
  const bool along = flag != request.parameters().end() && flag->second.bool_param();
  unload_later(services, model_of(request),
               along ? infer::Dependents::kUnload : infer::Dependents::kKeep,
               [exchange, model = model_of(request)](Result<void> done) {
                 if (!done) return exchange->reply(std::unexpected(std::move(done).error()));
                 inference::RepositoryModelUnloadResponse reply;
                 reply.set_model_name(model);
                 reply.set_is_unloaded(true);
                 exchange->reply(to_buffer(reply));
               });
}

Result<inference::SystemSharedMemoryStatusResponse> shared_status(
    Services& services, const inference::SystemSharedMemoryStatusRequest& request) {
  SELVAGE_RETURN_IF_ERROR(services.shared.check_allowed());
  SELVAGE_TRY(const auto regions, services.shared.list(request.name()));
  inference::SystemSharedMemoryStatusResponse reply;
  for (const auto& region : regions) {
    auto& added = (*reply.mutable_regions())[region.name];
    added.set_name(region.name);
    added.set_key(region.key);
    added.set_offset(region.offset);
    added.set_byte_size(region.byte_size);
  }
  return reply;
}

Result<inference::SystemSharedMemoryRegisterResponse> shared_register(
    Services& services, const inference::SystemSharedMemoryRegisterRequest& request) {
  SELVAGE_RETURN_IF_ERROR(
      services.shared.add({request.name(), request.key(), request.offset(), request.byte_size()}));
  return inference::SystemSharedMemoryRegisterResponse();
}

Result<inference::SystemSharedMemoryUnregisterResponse> shared_unregister(
    Services& services, const inference::SystemSharedMemoryUnregisterRequest& request) {
  SELVAGE_RETURN_IF_ERROR(services.shared.check_allowed());
  SELVAGE_RETURN_IF_ERROR(services.shared.remove(request.name()));
  return inference::SystemSharedMemoryUnregisterResponse();
}

Result<inference::CudaSharedMemoryStatusResponse> cuda_status(
    Services& services, const inference::CudaSharedMemoryStatusRequest& request) {
  SELVAGE_RETURN_IF_ERROR(check_cuda_region(services.shared, request.name()));
  return inference::CudaSharedMemoryStatusResponse();
}

Result<inference::CudaSharedMemoryRegisterResponse> cuda_register(
    Services&, const inference::CudaSharedMemoryRegisterRequest& request) {
  SELVAGE_RETURN_IF_ERROR(refuse_cuda_region(request.name()));
  return inference::CudaSharedMemoryRegisterResponse();
}

Result<inference::CudaSharedMemoryUnregisterResponse> cuda_unregister(
    Services& services, const inference::CudaSharedMemoryUnregisterRequest& request) {
  SELVAGE_RETURN_IF_ERROR(check_cuda_region(services.shared, request.name()));
  return inference::CudaSharedMemoryUnregisterResponse();
}

Result<grpc::health::v1::HealthCheckResponse> health(
    Services& services, const grpc::health::v1::HealthCheckRequest& request) {
  using grpc::health::v1::HealthCheckResponse;
  const std::string& service = request.service();
  const bool whole = service.empty() || service == "inference.GRPCInferenceService";
  if (!whole) {
    const auto known = services.backend.metadata(service, "");
    if (!known && known.error().code == ErrorCode::kNotFound)
      return fail(ErrorCode::kNotFound, "no service or model '" + service + "'");
  }
  HealthCheckResponse reply;
  reply.set_status((whole ? services.backend.ready() : services.backend.ready(service, ""))
                       ? HealthCheckResponse::SERVING
                       : HealthCheckResponse::NOT_SERVING);
  return reply;
}

#define SELVAGE_METHOD(name, function)                                  \
  GrpcMethod {                                                          \
    "/inference.GRPCInferenceService/" #name, GrpcShape::kUnary, false, \
        answer<function, inference::name##Request>                      \
  }

const std::array kMethods = {
    GrpcMethod{"/inference.GRPCInferenceService/ModelInfer", GrpcShape::kUnary, false,
               handle_model_infer},
    GrpcMethod{"/inference.GRPCInferenceService/ModelStreamInfer", GrpcShape::kBothStreams, false,
               handle_stream_infer, refuse_stream_infer},
    GrpcMethod{"/inference.GRPCInferenceService/ServerLive", GrpcShape::kUnary, true,
               answer<server_live, inference::ServerLiveRequest>},
    GrpcMethod{"/inference.GRPCInferenceService/ServerReady", GrpcShape::kUnary, true,
               answer<server_ready, inference::ServerReadyRequest>},
    GrpcMethod{"/grpc.health.v1.Health/Check", GrpcShape::kUnary, true,
               answer<health, grpc::health::v1::HealthCheckRequest>},
    GrpcMethod{"/inference.GRPCInferenceService/RepositoryModelLoad", GrpcShape::kUnary, false,
               load},
    GrpcMethod{"/inference.GRPCInferenceService/RepositoryModelUnload", GrpcShape::kUnary, false,
               unload},
    GrpcMethod{
        "/inference.GRPCInferenceService/RepositoryIndex", GrpcShape::kUnary, false,
        answer_aside<repository_index, inference::RepositoryIndexRequest>},  // Reads folders.
    SELVAGE_METHOD(ModelReady, model_ready),
    SELVAGE_METHOD(ServerMetadata, server_metadata),
    SELVAGE_METHOD(ModelMetadata, model_metadata),
    SELVAGE_METHOD(ModelConfig, model_config),
    SELVAGE_METHOD(ModelStatistics, model_statistics),
    SELVAGE_METHOD(SystemSharedMemoryStatus, shared_status),
    SELVAGE_METHOD(SystemSharedMemoryRegister, shared_register),
    SELVAGE_METHOD(SystemSharedMemoryUnregister, shared_unregister),
    SELVAGE_METHOD(CudaSharedMemoryStatus, cuda_status),
    SELVAGE_METHOD(CudaSharedMemoryRegister, cuda_register),
    SELVAGE_METHOD(CudaSharedMemoryUnregister, cuda_unregister),
};
#undef SELVAGE_METHOD

}  // namespace

const GrpcMethod* find_method(std::string_view path) {
  const auto found = std::ranges::find(kMethods, path, &GrpcMethod::path);
  return found == kMethods.end() ? nullptr : &*found;
}

}  // namespace selvage::serve
