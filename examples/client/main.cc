// Asks a server of the Open Inference Protocol over gRPC what a model takes, sends zeros of that
// shape and prints what comes back and how long it took.
//   client 127.0.0.1:8001 MODEL [CALLS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "inference.grpc.pb.h"

namespace {

std::size_t element_bytes(const std::string& datatype) {
  if (datatype == "BOOL" || datatype == "INT8" || datatype == "UINT8") return 1;
  if (datatype == "FP64" || datatype == "INT64" || datatype == "UINT64") return 8;
  return datatype == "FP16" || datatype == "BF16" || datatype.ends_with("16") ? 2 : 4;
}

// Zeros for every input; dimensions that are open are 1.
inference::ModelInferRequest zeros(const inference::ModelMetadataResponse& model) {
  inference::ModelInferRequest request;
  request.set_model_name(model.name());
  for (const auto& tensor : model.inputs()) {
    auto& input = *request.add_inputs();
    input.set_name(tensor.name());
    input.set_datatype(tensor.datatype());
    std::size_t bytes = element_bytes(tensor.datatype());
    for (const auto size : tensor.shape()) {
      input.add_shape(size < 0 ? 1 : size);
      bytes *= static_cast<std::size_t>(size < 0 ? 1 : size);
    }
    request.add_raw_input_contents(std::string(bytes, '\0'));
  }
  return request;
}

int fail(const grpc::Status& status) {
  std::fprintf(stderr, "client: %s\n", status.error_message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: client ADDRESS MODEL [CALLS]\n"), 2;
  const int calls = argc > 3 ? std::max(std::atoi(argv[3]), 1) : 1;
  const auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  const auto stub = inference::GRPCInferenceService::NewStub(channel);

  inference::ModelMetadataRequest which;
  which.set_name(argv[2]);
  inference::ModelMetadataResponse model;
  grpc::ClientContext asking;
  if (const auto status = stub->ModelMetadata(&asking, which, &model); !status.ok())
    return fail(status);

  const auto request = zeros(model);
  inference::ModelInferResponse response;
  std::vector<double> times;
  for (int i = 0; i < calls; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const auto begin = std::chrono::steady_clock::now();
    if (const auto status = stub->ModelInfer(&context, request, &response); !status.ok())
      return fail(status);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    times.push_back(took.count());
  }
  std::sort(times.begin(), times.end());
  for (int i = 0; i < response.outputs_size(); ++i)
    std::printf("%s %s, %zu bytes\n", response.outputs(i).name().c_str(),
                response.outputs(i).datatype().c_str(), response.raw_output_contents(i).size());
  std::printf("gRPC: %d calls, p50 %.2f ms, p99 %.2f ms\n", calls, times[times.size() / 2],
              times[times.size() * 99 / 100]);
  return 0;
}
