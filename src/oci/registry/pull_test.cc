// Pulling from registries that are slow, broken or hostile.
#include "oci/registry/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/store/blob_writer.h"
#include "oci/testing/fake_registry.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm {
namespace {

using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::HttpCall;
using testing::HttpPeer;

// Does not compress, so that blobs have some size.
std::string noise(std::size_t size, std::uint32_t seed) {
  std::string out(size, '\0');
  for (char& c : out) {
    seed = seed * 1664525U + 1013904223U;
    c = static_cast<char>(seed >> 24U);
  }
  return out;
}

std::vector<std::string> two_layers() {
  return {testing::TarBuilder().file("a", noise(600'000, 1)).finish(),
          testing::TarBuilder().file("b", noise(900'000, 2)).finish()};
}

class PullTest : public ::testing::Test {
 protected:
  Result<PullResult> pull(FakeRegistry& registry, RegistryOptions options,
                          const std::string& tag = "v1", const std::stop_token& stop = {}) {
    const auto store = ImageStore::open(folder_ / "store");
    RegistryClient client(std::move(options));
    return pull_image(*store, client, registry.name(tag), {}, stop);
  }
  Result<PullResult> pull(FakeRegistry& registry) { return pull(registry, registry.options()); }
  ImageStore store() { return *ImageStore::open(folder_ / "store"); }
  // Nothing that a failed pull leaves may look like an image.
  void expect_no_image() {
    EXPECT_TRUE(store().entries()->empty());
    for (const auto& file : std::filesystem::directory_iterator(folder_ / "store/blobs/sha256")) {
      const auto text = read_file(file.path().string(), 1U << 30U);
      EXPECT_EQ(Hasher::of(as_byte_span(*text)).hex(), file.path().filename().string());
    }
  }
  void expect_image(FakeRegistry& registry) {
    const auto image = store().get(registry.name().text());
    ASSERT_TRUE(image.has_value()) << image.error().text();
    for (std::size_t i = 0; i < image->source.layers().size(); ++i) {
      const auto stream = image->source.open_layer(i, 1U << 30U);
      ASSERT_TRUE(stream.has_value());
      EXPECT_TRUE(drain(**stream).has_value());
    }
  }
  static std::size_t count(const FakeRegistry& registry, const std::string& line) {
    const auto log = registry.server().log();
    return static_cast<std::size_t>(std::count(log.begin(), log.end(), line));
  }
  testing::TempDir folder_;
};

TEST_F(PullTest, an_honest_registry) {
  FakeRegistry registry(two_layers());
  const auto first = pull(registry);
  ASSERT_TRUE(first.has_value()) << first.error().text();
  EXPECT_TRUE(first->changed);
  EXPECT_EQ(first->fetched, 2U);
  expect_image(registry);
  const auto second = pull(registry);
  ASSERT_TRUE(second.has_value());
  EXPECT_FALSE(second->changed);
  EXPECT_EQ(second->fetched, 0U);
  EXPECT_EQ(count(registry, "GET " + registry.blob_target(0)), 1U);
}

TEST_F(PullTest, a_missing_image_is_named) {
  FakeRegistry registry(two_layers());
  const auto result = pull(registry, registry.options(), "none");
  EXPECT_EQ(result.error().code(), Code::kNotFound);
  EXPECT_THAT(result.error().cause(), HasSubstr(registry.name("none").text()));
  EXPECT_THAT(result.error().cause(), HasSubstr("manifest unknown"));
}

TEST_F(PullTest, a_download_that_breaks_goes_on_where_it_was) {
  std::atomic<int> broken{0};
  std::string second_range;
  FakeRegistry* self = nullptr;
  FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
    if (call.target != self->blob_target(1)) return false;
    const auto& bytes = self->layer_bytes(1);
    if (broken++ == 0) {  // states all, sends half, hangs up
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(bytes.size()) + "\r\n\r\n" +
                bytes.substr(0, 400'000));
      return true;
    }
    second_range = call.header("Range");
    return false;
  });
  self = &registry;
  const auto result = pull(registry);
  ASSERT_TRUE(result.has_value()) << result.error().text();
  EXPECT_EQ(second_range, "bytes=400000-");
  expect_image(registry);
}

TEST_F(PullTest, a_registry_without_ranges_starts_over) {
  std::atomic<int> broken{0};
  FakeRegistry* self = nullptr;
  FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
    if (call.target != self->blob_target(0)) return false;
    const auto& bytes = self->layer_bytes(0);
    const bool whole = broken++ > 0;
    peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
              std::to_string(bytes.size()) + "\r\n\r\n");
    peer.send(whole ? bytes : bytes.substr(0, 100'000));
    return true;
  });
  self = &registry;
  const auto result = pull(registry);
  ASSERT_TRUE(result.has_value()) << result.error().text();
  EXPECT_EQ(broken.load(), 2);
  expect_image(registry);
}

TEST_F(PullTest, another_part_than_was_asked_for_is_refused) {
  std::atomic<int> calls{0};
  FakeRegistry* self = nullptr;
  FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
    if (call.target != self->blob_target(0)) return false;
    const auto& bytes = self->layer_bytes(0);
    if (calls++ == 0) {
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(bytes.size()) + "\r\n\r\n" +
                bytes.substr(0, 1000));
    } else {
      peer.respond(206, bytes.substr(5), {{"Content-Range", "bytes 5-599999/600000"}});
    }
    return true;
  });
  self = &registry;
  EXPECT_EQ(pull(registry).error().code(), Code::kCorrupt);
  expect_no_image();
}

TEST_F(PullTest, wrong_bytes_are_refused) {
  FakeRegistry registry(two_layers());
  auto bytes = registry.layer_bytes(1);
  bytes[1000] ^= 1;
  registry.set(registry.blob_target(1), "application/octet-stream", bytes);
  const auto result = pull(registry);
  EXPECT_EQ(result.error().code(), Code::kCorrupt);
  EXPECT_THAT(result.error().cause(), HasSubstr("does not match its digest"));
  expect_no_image();
}

TEST_F(PullTest, too_many_and_too_few_bytes_are_refused) {
  for (const bool more : {true, false}) {
    FakeRegistry* self = nullptr;
    FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
      if (call.target != self->blob_target(0)) return false;
      // Chunked: no size is stated.
      const auto& bytes = self->layer_bytes(0);
      const auto sent = more ? bytes + "more" : bytes.substr(0, 1000);
      char size[32];
      std::snprintf(size, sizeof(size), "%zx", sent.size());
      peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
                std::string(size) + "\r\n" + sent + "\r\n0\r\n\r\n");
      return true;
    });
    self = &registry;
    const auto result = pull(registry);
    EXPECT_EQ(result.error().code(), more ? Code::kCorrupt : Code::kGone) << result.error().text();
    expect_no_image();
  }
}

TEST_F(PullTest, a_size_other_than_the_manifests_is_refused_at_once) {
  FakeRegistry registry(two_layers());
  registry.set(registry.blob_target(0), "application/octet-stream", registry.layer_bytes(0) + "x");
  const auto result = pull(registry);
  EXPECT_EQ(result.error().code(), Code::kCorrupt);
  EXPECT_THAT(result.error().cause(), HasSubstr("the manifest states"));
}

TEST_F(PullTest, rate_limits_and_server_errors_pass) {
  std::atomic<int> calls{0};
  FakeRegistry registry(two_layers(), [&](const HttpCall&, HttpPeer& peer) {
    const int n = calls++;
    if (n == 0) peer.respond(429, "", {{"Retry-After", "0"}});
    if (n == 1) peer.respond(503, "");
    return n < 2;
  });
  ASSERT_TRUE(pull(registry).has_value());
  expect_image(registry);
}

TEST_F(PullTest, a_rate_limit_that_stays_is_told) {
  FakeRegistry registry(two_layers(), [&](const HttpCall&, HttpPeer& peer) {
    peer.respond(429, R"({"errors":[{"code":"TOOMANYREQUESTS","message":"slow \u001b[31mdown"}]})",
                 {{"Retry-After", "86400"}});
    return true;
  });
  const auto result = pull(registry);
  EXPECT_EQ(result.error().code(), Code::kLimit);
  EXPECT_THAT(result.error().cause(), HasSubstr("86400"));
  EXPECT_THAT(result.error().cause(), HasSubstr("slow \\x1b[31mdown"));
  EXPECT_EQ(registry.server().log().size(), 1U);
}

TEST_F(PullTest, redirects_have_an_end) {
  FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
    peer.respond(307, "", {{"Location", call.target}});
    return true;
  });
  EXPECT_EQ(pull(registry).error().code(), Code::kLimit);
  EXPECT_LE(registry.server().log().size(), 6U);
}

TEST_F(PullTest, redirects_lead_nowhere_else) {
  for (const auto* location : {"file:///etc/passwd", "gopher://x/", "", "http://"}) {
    FakeRegistry registry(two_layers(), [&](const HttpCall&, HttpPeer& peer) {
      peer.respond(302, "", {{"Location", location}});
      return true;
    });
    EXPECT_EQ(pull(registry).error().code(), Code::kCorrupt) << location;
  }
}

TEST_F(PullTest, passwords_do_not_follow_redirects_to_other_hosts) {
  FakeRegistry* self = nullptr;
  std::string seen = "nothing came";
  auto storage = std::make_unique<testing::HttpServer>([&](const HttpCall& call, HttpPeer& peer) {
    seen = call.header("Authorization");
    peer.respond(200, self->layer_bytes(0));
  });
  FakeRegistry registry({two_layers()[0]}, [&](const HttpCall& call, HttpPeer& peer) {
    if (call.header("Authorization").empty()) {
      peer.respond(401, "", {{"WWW-Authenticate", "Basic realm=\"x\""}});
      return true;
    }
    EXPECT_EQ(call.header("Authorization"), "Basic bWU6c2VjcmV0");
    if (call.target != self->blob_target(0)) return false;
    peer.respond(307, "", {{"Location", storage->url() + "/somewhere?signed"}});
    return true;
  });
  self = &registry;
  testing::write_file(folder_ / "auth.json", R"({"auths":{")" + registry.host() +
                                                 R"(":{"username":"me","password":"secret"}}})");
  auto options = registry.options();
  options.auth_files = {folder_ / "auth.json"};
  const auto result = pull(registry, std::move(options));
  storage.reset();  // its threads are joined: what they wrote can be read
  ASSERT_TRUE(result.has_value()) << result.error().text();
  EXPECT_EQ(seen, "");
  expect_image(registry);
}

TEST_F(PullTest, headers_without_end_are_refused) {
  FakeRegistry registry(two_layers(), [&](const HttpCall&, HttpPeer& peer) {
    peer.send("HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 100'000; ++i) {
      if (!peer.send("X-Header-" + std::to_string(i) + ": " + std::string(200, 'x') + "\r\n"))
        break;
    }
    return true;
  });
  EXPECT_EQ(pull(registry).error().code(), Code::kLimit);
}

TEST_F(PullTest, manifests_without_end_are_refused) {
  FakeRegistry registry(two_layers(), [&](const HttpCall&, HttpPeer& peer) {
    peer.send("HTTP/1.1 200 OK\r\n\r\n");
    while (peer.send(std::string(65536, ' '))) {
    }
    return true;
  });
  EXPECT_EQ(pull(registry).error().code(), Code::kLimit);
}

TEST_F(PullTest, an_answer_that_drips_is_given_up) {
  for (const bool in_blob : {false, true}) {
    FakeRegistry* self = nullptr;
    FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
      if (in_blob && call.target != self->blob_target(0)) return false;
      peer.send("HTTP/1.1 200 OK\r\n");
      if (in_blob) peer.send("\r\nx");
      peer.hold();
      return true;
    });
    self = &registry;
    auto options = registry.options();
    options.retry.attempts = 2;
    options.limits.answer = std::chrono::milliseconds(200);
    options.limits.stall = std::chrono::seconds(1);
    const auto result = pull(registry, std::move(options));
    EXPECT_EQ(result.error().code(), Code::kTimeout) << result.error().text();
    expect_no_image();
  }
}

TEST_F(PullTest, a_stop_request_ends_a_pull_that_waits) {
  std::stop_source stop;
  FakeRegistry registry(two_layers(), [&](const HttpCall&, HttpPeer& peer) {
    stop.request_stop();
    peer.hold();
    return true;
  });
  EXPECT_EQ(pull(registry, registry.options(), "v1", stop.get_token()).error().code(), Code::kGone);
  expect_no_image();
}

TEST_F(PullTest, a_registry_that_always_wants_a_login_is_asked_three_times) {
  FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
    if (call.target.starts_with("/token")) {
      peer.respond(200, R"({"token":"t)" +
                            std::to_string(reinterpret_cast<std::uintptr_t>(&call) & 0xff) +
                            R"("})");
    } else {
      peer.respond(401, "",
                   {{"WWW-Authenticate",
                     "Bearer realm=\"http://" + call.header("Host") + "/token\",service=\"s\""}});
    }
    return true;
  });
  const auto result = pull(registry);
  EXPECT_EQ(result.error().code(), Code::kPermission);
  EXPECT_LE(registry.server().log().size(), 5U);
}

TEST_F(PullTest, tokens_are_fetched_once_for_a_scope) {
  FakeRegistry registry(two_layers(), [&](const HttpCall& call, HttpPeer& peer) {
    if (call.target.starts_with("/token")) {
      EXPECT_EQ(call.target, "/token?service=s&scope=repository%3Ateam%2Fapp%3Apull");
      peer.respond(200, R"({"access_token":"tok","expires_in":300})");
      return true;
    }
    if (call.header("Authorization") == "Bearer tok") return false;
    peer.respond(
        401, "",
        {{"WWW-Authenticate", "Bearer realm=\"http://" + call.header("Host") +
                                  "/token\",service=\"s\",scope=\"repository:other:push\""}});
    return true;
  });
  ASSERT_TRUE(pull(registry).has_value());
  const auto log = registry.server().log();
  EXPECT_EQ(std::count_if(log.begin(), log.end(),
                          [](const auto& line) { return line.starts_with("GET /token"); }),
            1);
}

TEST_F(PullTest, demands_that_cannot_be_met_are_told) {
  for (const auto& [demand, code] :
       std::vector<std::pair<std::string, Code>>{{"Negotiate", Code::kUnsupported},
                                                 {"Bearer realm=\"ftp://x\"", Code::kCorrupt},
                                                 {"=", Code::kCorrupt},
                                                 {"Basic realm=\"x\"", Code::kPermission}}) {
    FakeRegistry registry(two_layers(), [&, demand = demand](const HttpCall&, HttpPeer& peer) {
      peer.respond(401, "", {{"WWW-Authenticate", demand}});
      return true;
    });
    EXPECT_EQ(pull(registry).error().code(), code) << demand;
  }
}

TEST_F(PullTest, another_digest_than_the_names_is_refused) {
  FakeRegistry registry(two_layers());
  const auto digest = Hasher::of(as_byte_span(registry.manifest_text()));
  registry.set("/v2/team/app/manifests/" + digest.text(),
               "application/vnd.oci.image.manifest.v1+json", registry.manifest_text() + " ");
  const auto store = ImageStore::open(folder_ / "store");
  RegistryClient client(registry.options());
  auto name = registry.name();
  name.digest = digest;
  name.tag.clear();
  EXPECT_EQ(pull_image(*store, client, name, {}).error().code(), Code::kCorrupt);
}

TEST_F(PullTest, foreign_layers_and_artifacts_are_refused_by_name) {
  FakeRegistry registry(two_layers());
  auto manifest = registry.manifest();
  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
  registry.set("/v2/team/app/manifests/foreign", type, manifest.dump());
  EXPECT_THAT(pull(registry, registry.options(), "foreign").error().cause(),
              HasSubstr("foreign.diff"));
  manifest["layers"][0]["mediaType"] = "text/html";
  registry.set("/v2/team/app/manifests/html", type, manifest.dump());
  EXPECT_THAT(pull(registry, registry.options(), "html").error().cause(), HasSubstr("text/html"));
  registry.set("/v2/team/app/manifests/v0",
               "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}");
  EXPECT_THAT(pull(registry, registry.options(), "v0").error().cause(), HasSubstr("v1+prettyjws"));
  manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip";
  manifest["layers"][0]["size"] = 1ULL << 60U;
  registry.set("/v2/team/app/manifests/huge", type, manifest.dump());
  EXPECT_EQ(pull(registry, registry.options(), "huge").error().code(), Code::kLimit);
  expect_no_image();
}

TEST_F(PullTest, an_index_leads_to_the_platform_and_passes_over_attestations) {
  FakeRegistry registry(two_layers());
  const auto digest = Hasher::of(as_byte_span(registry.manifest_text())).text();
  const auto size = registry.manifest_text().size();
  const testing::ImageBuilder::Json index = {
      {"schemaVersion", 2},
      {"manifests",
       {{{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
         {"digest", "sha256:" + std::string(64, '0')},
         {"size", 10},
         {"platform", {{"os", "linux"}, {"architecture", "arm64"}}}},
        {{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
         {"digest", "sha256:" + std::string(64, '1')},
         {"size", 10},
         {"platform", {{"os", "unknown"}, {"architecture", "unknown"}}}},
        {{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
         {"digest", digest},
         {"size", size},
         {"platform", {{"os", "linux"}, {"architecture", "amd64"}}}}}}};
  registry.set("/v2/team/app/manifests/multi", "application/vnd.oci.image.index.v1+json",
               index.dump());
  const auto result = pull(registry, registry.options(), "multi");
  ASSERT_TRUE(result.has_value()) << result.error().text();
  EXPECT_TRUE(store().get(registry.name("multi").text()).has_value());
}

TEST_F(PullTest, a_mirror_is_asked_first_and_may_fail) {
  FakeRegistry registry(two_layers());
  FakeRegistry mirror(two_layers());
  testing::HttpServer dead([](const HttpCall&, HttpPeer& peer) { peer.respond(404, ""); });
  auto options = registry.options();
  options.config.registries[registry.host()].mirrors = {dead.url(), mirror.server().url()};
  ASSERT_TRUE(pull(registry, std::move(options)).has_value());
  EXPECT_TRUE(registry.server().log().empty());
  expect_image(registry);
}

TEST_F(PullTest, what_a_dead_process_left_is_gone_on_with_or_thrown_away) {
  for (const bool good : {true, false}) {
    testing::TempDir folder;
    FakeRegistry registry({two_layers()[0]});
    const auto store = ImageStore::open(folder / "store");
    const auto digest = registry.manifest()["layers"][0]["digest"].get<std::string>();
    auto left = registry.layer_bytes(0).substr(0, 5000);
    if (!good) left[17] ^= 1;
    testing::write_file(folder / ("store/ingest/sha256-" + digest.substr(7) + ".partial"), left);
    RegistryClient client(registry.options());
    const auto result = pull_image(*store, client, registry.name(), {});
    ASSERT_TRUE(result.has_value()) << result.error().text();
    EXPECT_EQ(count(registry, "GET " + registry.blob_target(0)), good ? 1U : 2U);
  }
}

TEST_F(PullTest, plain_http_has_to_be_allowed) {
  testing::HttpServer server([](const HttpCall&, HttpPeer& peer) { peer.respond(200, "{}"); });
  HttpClient http;
  HttpRequest request;
  request.url = server.url() + "/x";
  EXPECT_EQ(http.perform(request).error().code(), Code::kPermission);
  EXPECT_TRUE(server.log().empty());
}

TEST_F(PullTest, a_registry_on_this_machine_may_speak_plain_http) {
  FakeRegistry registry(two_layers());
  auto options = registry.options();
  options.config.registries.clear();
  const auto result = pull(registry, std::move(options));
  ASSERT_TRUE(result.has_value()) << result.error().text();
}

TEST(RegistryUrlTest, origins_and_locations) {
  EXPECT_EQ(url_origin("https://Host/x"), "https://host:443");
  EXPECT_EQ(url_origin("http://host:80/x"), url_origin("http://HOST"));
  EXPECT_NE(url_origin("http://host"), url_origin("https://host"));
  EXPECT_EQ(url_origin("ftp://host"), "");
  EXPECT_EQ(url_host("https://host:5000/x"), "host:5000");
  EXPECT_EQ(*resolve_url("https://h/v2/a?x", "/v2/b?y=1"), "https://h/v2/b?y=1");
  EXPECT_EQ(*resolve_url("https://h/v2/a", "https://other/b"), "https://other/b");
  EXPECT_FALSE(resolve_url("https://h/", "javascript:x").has_value());
  EXPECT_EQ(url_escape("a:b/c d~"), "a%3Ab%2Fc%20d~");
}

TEST(TokenTest, answers_of_token_servers) {
  EXPECT_EQ(parse_token(R"({"token":"a","access_token":"b","expires_in":99999})")->value, "a");
  EXPECT_EQ(parse_token(R"({"token":"a","expires_in":99999})")->lifetime, std::chrono::hours(1));
  for (const auto* text :
       {"", "{}", R"({"token":""})", R"({"token":"a b"})", R"({"token":"a\r\nX: y"})",
        R"({"token":1})", R"({"token":"a","expires_in":-1})"}) {
    EXPECT_FALSE(parse_token(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace sm
