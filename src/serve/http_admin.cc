// Endpoints of the repository and of shared memory.
#include "base/json_writer.h"
#include "serve/base64.h"
#include "serve/http_api.h"
#include "serve/json_reader.h"
#include "serve/parameters.h"

namespace selvage::serve {
namespace {

HttpReply empty_reply() {
  return HttpReply();
}

HttpReply reply_of(Result<void> done) {
  return done ? empty_reply() : error_reply(done.error());
}

// Calls `member(key, reader)` for each member of the body's object; an empty body has none.
template <typename Member>
Result<void> read_object(std::string_view text, Member member) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return {};
  JsonReader reader(text);
  std::string key;
  SELVAGE_RETURN_IF_ERROR(reader.begin_object());
  while (true) {
    SELVAGE_TRY(const bool more, reader.next_key(key));
    if (!more) return reader.end();
    SELVAGE_RETURN_IF_ERROR(member(key, reader));
  }
}

Result<Parameters> read_parameters_of(std::string_view text) {
  Parameters parameters;
  const auto member = [&](const std::string& key, JsonReader& reader) -> Result<void> {
    if (key == "parameters") {
      SELVAGE_TRY(parameters, read_parameters(reader));
    } else {
      SELVAGE_RETURN_IF_ERROR(reader.skip());
    }
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(read_object(text, member));
  return parameters;
}

Result<infer::LoadOverrides> overrides_of(std::string_view text) {
  SELVAGE_TRY(const Parameters parameters, read_parameters_of(text));
  infer::LoadOverrides overrides;
  for (const auto& [name, value] : parameters.all()) {
    constexpr std::string_view kFile = "file:";
    const bool is_file = name.starts_with(kFile);
    if (name != "config" && !is_file)
      return fail(ErrorCode::kInvalidArgument,
                  "unknown parameter '" + name + "': load takes 'config' and 'file:VERSION/NAME'");
    const auto* said = std::get_if<std::string>(&value);
    if (!said)
      return fail(ErrorCode::kInvalidArgument, "parameter '" + name + "' must be a string");
    if (!is_file) {
      overrides.config_json = *said;
      continue;
    }
    auto content = decode_base64(*said);
    if (!content)
      return std::unexpected(std::move(content).error().with_context("parameter '" + name + "'"));
    overrides.files.push_back({name.substr(kFile.size()), *std::move(content)});
  }
  return overrides;
}

Result<infer::Dependents> dependents_of(std::string_view text) {
  SELVAGE_TRY(const Parameters parameters, read_parameters_of(text));
  SELVAGE_TRY(const auto unload, parameters.boolean("unload_dependents"));
  return unload.value_or(false) ? infer::Dependents::kUnload : infer::Dependents::kKeep;
}

std::move_only_function<void(Result<void>)> answer(std::shared_ptr<HttpExchange> exchange) {
  return [exchange = std::move(exchange)](Result<void> done) {
    exchange->reply([done = std::move(done)]() mutable { return reply_of(std::move(done)); });
  };
}

Result<RegionInfo> region_of(const std::string& name, std::string_view text) {
  RegionInfo region{.name = name, .key = "", .offset = 0, .byte_size = 0};
  const auto size = [](JsonReader& reader, std::uint64_t& to,
                       const std::string& key) -> Result<void> {
    SELVAGE_TRY(const std::string_view number, reader.number_text());
    if (to_number(number, to)) return {};
    return fail(ErrorCode::kInvalidArgument, "'" + key + "' must be an integer from 0");
  };
  const auto member = [&](const std::string& key, JsonReader& reader) -> Result<void> {
    if (key == "offset") return size(reader, region.offset, key);
    if (key == "byte_size") return size(reader, region.byte_size, key);
    if (key == "key") {
      SELVAGE_TRY(region.key, reader.string());
      return {};
    }
    SELVAGE_RETURN_IF_ERROR(reader.skip());
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(read_object(text, member));
  return region;
}

}  // namespace

void handle_load(Services& services, const Route& route, HttpRequest request,
                 std::shared_ptr<HttpExchange> exchange) {
  auto overrides = overrides_of(request.body.text());
  if (!overrides) return answer(std::move(exchange))(std::unexpected(std::move(overrides).error()));
  load_later(services, route.name, *std::move(overrides), answer(std::move(exchange)));
}

void handle_unload(Services& services, const Route& route, HttpRequest request,
                   std::shared_ptr<HttpExchange> exchange) {
  auto dependents = dependents_of(request.body.text());
  if (!dependents)
    return answer(std::move(exchange))(std::unexpected(std::move(dependents).error()));
  unload_later(services, route.name, *dependents, answer(std::move(exchange)));
}

Result<HttpReply> handle_index(Services& services, const HttpRequest& request) {
  bool ready_only = false;
  const auto member = [&](const std::string& key, JsonReader& reader) -> Result<void> {
    if (key == "ready") {
      SELVAGE_TRY(ready_only, reader.boolean());
    } else {
      SELVAGE_RETURN_IF_ERROR(reader.skip());
    }
    return {};
  };
  SELVAGE_RETURN_IF_ERROR(read_object(request.body.text(), member));
  JsonWriter json;
  json.begin_array();
  for (const auto& entry : services.backend.index(ready_only)) {
    json.begin_object().field("name", entry.name);
    if (!entry.version.empty()) json.field("version", entry.version);
    json.field("state", to_string(entry.state)).field("reason", entry.reason).end_object();
  }
  json.end_array();
  HttpReply reply;
  reply.text = json.text();
  return reply;
}

Result<HttpReply> handle_shared_memory(Services& services, const Route& route,
                                       const HttpRequest& request) {
  SELVAGE_RETURN_IF_ERROR(services.shared.check_allowed());
  if (route.endpoint == Endpoint::kSharedMemoryUnregister) {
    SELVAGE_RETURN_IF_ERROR(services.shared.remove(route.name));
    return empty_reply();
  }
  if (route.endpoint == Endpoint::kSharedMemoryRegister) {
    SELVAGE_TRY(const RegionInfo region, region_of(route.name, request.body.text()));
    SELVAGE_RETURN_IF_ERROR(services.shared.add(region));
    return empty_reply();
  }
  SELVAGE_TRY(const auto regions, services.shared.list(route.name));
  JsonWriter json;
  json.begin_array();
  for (const auto& region : regions)
    json.begin_object()
        .field("name", region.name)
        .field("key", region.key)
        .field("offset", region.offset)
        .field("byte_size", region.byte_size)
        .end_object();
  json.end_array();
  HttpReply reply;
  reply.text = json.text();
  return reply;
}

Result<HttpReply> handle_cuda_memory(Services& services, const Route& route) {
  if (route.endpoint == Endpoint::kCudaMemoryRegister)
    SELVAGE_RETURN_IF_ERROR(refuse_cuda_region(route.name));
  SELVAGE_RETURN_IF_ERROR(check_cuda_region(services.shared, route.name));
  HttpReply reply;
  if (route.endpoint == Endpoint::kCudaMemoryStatus) reply.text = "[]";
  return reply;
}

}  // namespace selvage::serve
