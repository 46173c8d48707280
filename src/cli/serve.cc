// `selvage serve`: the inference server until a signal ends it.
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "infer/runtime.h"
#include "serve/server.h"

namespace selvage::cli {
namespace {

using std::chrono::milliseconds;

constexpr auto kLookInterval = milliseconds(100);

struct Chosen {
  serve::ServerOptions server;
  std::vector<std::string> folders;
  std::string control = "none";
  std::vector<std::string> models;
  std::optional<double> poll_seconds;
  double drain_seconds = 30;
  bool shared_memory = false;
  std::string tls_certificate, tls_key, tls_client_authorities, token_file, access_log, cache;
};

Result<void> check_files(const Chosen& chosen) {
  std::error_code ignored;
  for (const auto& folder : chosen.folders)
    if (!std::filesystem::is_directory(folder, ignored))
      return fail(ErrorCode::kNotFound, "--models: there is no folder '" + folder + "'");
  if (!chosen.token_file.empty() && !std::filesystem::exists(chosen.token_file, ignored))
    return fail(ErrorCode::kNotFound, "--token-file: there is no file '" + chosen.token_file + "'");
  return {};
}

Result<serve::ServerOptions> options_of(const Chosen& chosen) {
  SELVAGE_RETURN_IF_ERROR(check_files(chosen));
  serve::ServerOptions options = chosen.server;
  options.repository.folders.assign(chosen.folders.begin(), chosen.folders.end());
  options.repository.session.cache_folder = chosen.cache;
  if (chosen.poll_seconds && chosen.control != "poll")
    return fail(ErrorCode::kInvalidArgument, "--poll-seconds needs --model-control poll");
  if (!chosen.models.empty() && chosen.control != "explicit")
    return fail(ErrorCode::kInvalidArgument, "--load-model needs --model-control explicit");
  if (chosen.control == "poll") {
    infer::LoadByPolling polling;
    if (chosen.poll_seconds)
      polling.interval = milliseconds(static_cast<std::int64_t>(*chosen.poll_seconds * 1000));
    options.repository.control = polling;
  } else if (chosen.control == "explicit") {
    options.repository.control = infer::LoadExplicitly{chosen.models};
  }
  if (chosen.tls_certificate.empty() != chosen.tls_key.empty())
    return fail(ErrorCode::kInvalidArgument, "--tls-cert and --tls-key go together");
  if (!chosen.tls_client_authorities.empty() && chosen.tls_certificate.empty())
    return fail(ErrorCode::kInvalidArgument, "--tls-client-ca needs --tls-cert and --tls-key");
  options.tls = {chosen.tls_certificate, chosen.tls_key, chosen.tls_client_authorities};
  options.token_file = chosen.token_file;
  options.access_log = chosen.access_log;
  if (chosen.shared_memory) options.shared_memory = serve::SharedMemoryAccess::kAllowed;
  options.grpc_limits.message_bytes_max = options.http_limits.body_bytes_max;
  return options;
}

// False when somebody wants us to end before every model is ready or has failed.
bool wait_until_loaded(const infer::ModelRepository& repository) {
  while (!repository.ready() && !interrupted()) std::this_thread::sleep_for(milliseconds(5));
  return repository.ready();
}

// Says which models failed. Unknown are those that nobody asked for.
void report_models(const infer::ModelRepository& repository, Output& output) {
  for (const auto& entry : repository.index())
    if (entry.state != infer::ModelState::kReady && entry.state != infer::ModelState::kUnknown)
      output.note("model " + entry.name + (entry.version.empty() ? "" : " ") + entry.version +
                  " is not served: " + entry.reason);
}

std::string address(const std::string& host, std::uint16_t port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" +
         std::to_string(port);
}

Result<void> run(const Chosen& chosen, const std::string& version, Output& output) {
  SELVAGE_TRY(auto options, options_of(chosen));
  options.version = version;
  const std::string host = options.host;
  const bool tls = options.tls.enabled();
  SELVAGE_TRY(const auto runtime,
              infer::Runtime::create(infer::EnvironmentStart::kWithFirstSession));
  auto started = serve::Server::start(*runtime, std::move(options));
  if (!started && started.error().code == ErrorCode::kUnavailable)
    started.error().message += "; see --http-port and --grpc-port";
  SELVAGE_TRY(const auto server, std::move(started));
  if (wait_until_loaded(server->repository())) {
    report_models(server->repository(), output);
    if (server->repository().index().empty())
      output.note("no models yet: they belong into '" + chosen.folders.front() +
                  "' as NAME/VERSION/model.onnx");
    const std::size_t ready = server->repository().index(true).size();
    output.print(std::string("ready: ") + (tls ? "https://" : "http://") +
                 address(host, server->http_port()) + " grpc://" +
                 address(host, server->grpc_port()) + " models=" + std::to_string(ready) + "\n");
  }
  while (!interrupted()) std::this_thread::sleep_for(kLookInterval);
  take_time_to_end();
  output.note("draining; a second signal ends at once");
  server->stop(milliseconds(static_cast<std::int64_t>(chosen.drain_seconds * 1000)));
  return {};
}

void add_repository_options(CLI::App& app, Chosen& chosen) {
  const auto group = "Models";
  app.add_option("--models", chosen.folders, "Folder of models: NAME/VERSION/model.onnx")
      ->required()
      ->type_name("DIR")
      ->group(group);
  app.add_option("--model-control", chosen.control,
                 "none: all models at the start; poll: follow changes of the folder; explicit: by "
                 "--load-model and by request")
      ->check(one_of({"none", "poll", "explicit"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--load-model", chosen.models, "Load this model at the start (explicit control)")
      ->type_name("NAME")
      ->group(group);
  app.add_option("--poll-seconds", chosen.poll_seconds, "Time between two looks at the folder (15)")
      ->check(in_range(0.1, 86'400))
      ->group(group);
  app.add_option("--workers", chosen.server.repository.workers,
                 "Threads that run models; 0: one a core")
      ->check(whole_in_range(0, 1'024))
      ->capture_default_str()
      ->group(group);
  app.add_option("--cache", chosen.cache, "Folder that keeps optimised models between starts")
      ->type_name("DIR")
      ->group(group);
}

void add_network_options(CLI::App& app, Chosen& chosen) {
  const auto group = "Network";
  auto& server = chosen.server;
  app.add_option("--host", server.host, "Address to listen on")
      ->capture_default_str()
      ->group(group);
  app.add_option("--http-port", server.http_port, "0: any free one")
      ->check(whole_in_range(0, 65'535))
      ->capture_default_str()
      ->group(group);
  app.add_option("--grpc-port", server.grpc_port, "0: any free one")
      ->check(whole_in_range(0, 65'535))
      ->capture_default_str()
      ->group(group);
  app.add_option("--http-threads", server.http_threads, "0: one for each core")
      ->check(whole_in_range(0, 256))
      ->capture_default_str()
      ->group(group);
  app.add_option("--grpc-threads", server.grpc_threads, "0: one for two cores")
      ->check(whole_in_range(0, 256))
      ->capture_default_str()
      ->group(group);
  app.add_option("--access-log", chosen.access_log, "Write a line a request; -: standard error")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--drain-seconds", chosen.drain_seconds,
                 "How long requests in flight may take after SIGTERM")
      ->check(in_range(0, 3'600))
      ->capture_default_str()
      ->group(group);
}

void add_security_options(CLI::App& app, Chosen& chosen) {
  const auto group = "Security";
  app.add_option("--tls-cert", chosen.tls_certificate, "Certificate chain (PEM): speak TLS only")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--tls-key", chosen.tls_key, "Its private key (PEM)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--tls-client-ca", chosen.tls_client_authorities,
                 "Demand client certificates signed by one of these (PEM)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--token-file", chosen.token_file,
                 "Demand one of these bearer tokens, one a line; read again when it changes")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--allow-shared-memory", chosen.shared_memory,
               "Let clients name shared memory of this machine")
      ->group(group);
}

void add_limit_options(CLI::App& app, Chosen& chosen) {
  constexpr std::int64_t kBytesMax = std::int64_t{1} << 40;
  const auto group = "Limits";
  auto& server = chosen.server;
  app.add_option("--max-body-bytes", server.http_limits.body_bytes_max,
                 "Of a request or gRPC message, decompressed")
      ->check(whole_in_range(1, kBytesMax))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-bodies-bytes", server.bodies_bytes_max, "Of all requests in flight")
      ->check(whole_in_range(1, kBytesMax))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-connections", server.http_limits.connections_max, "Of HTTP")
      ->check(whole_in_range(1, 1'000'000))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-queue", server.repository.queue_requests,
                 "Requests that wait for one model, unless its configuration says otherwise")
      ->check(whole_in_range(1, 1'000'000))
      ->capture_default_str()
      ->group(group);
}

Action add(CLI::App& app) {
  const auto chosen = std::make_shared<Chosen>();
  add_repository_options(app, *chosen);
  add_network_options(app, *chosen);
  add_security_options(app, *chosen);
  add_limit_options(app, *chosen);
  return
      [chosen, &app](Output& output) { return run(*chosen, app.get_parent()->version(), output); };
}

}  // namespace

const Command& serve_command() {
  static const Command command{
      .name = "serve",
      .summary = "Serve models over HTTP and gRPC",
      .description =
          "Serves a folder of ONNX models by the Open Inference Protocol (KServe V2, as Triton "
          "speaks it) over HTTP and gRPC, with metrics at /metrics and a status page at /.\n"
          "Listens on this machine only unless --host says otherwise. Prints one line when every "
          "model is ready or has failed. SIGTERM and Ctrl-C let requests in flight end first.",
      .examples =
          "selvage serve --models models\n"
          "selvage serve --models models --host 0.0.0.0 --tls-cert cert.pem --tls-key "
          "key.pem --token-file tokens\n"
          "curl --data-binary @photo.jpg localhost:8000/v1/models/blazeface-front:predict",
      .add = add};
  return command;
}

}  // namespace selvage::cli
