#include "cli/machine.h"

#include <fstream>

#include <gtest/gtest.h>

#include "cli/scratch_folder.h"

namespace selvage::cli {
namespace {

class MachineTest : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const auto full = folder_->path() / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  Machine machine() { return Machine(folder_->path()); }

  Result<ScratchFolder> folder_ = ScratchFolder::create();
};

TEST_F(MachineTest, ControlGroupsVersion2) {
  write("proc/self/cgroup", "0::/system.slice/selvage.service\n");
  write("sys/fs/cgroup/system.slice/selvage.service/cpu.max", "150000 100000\n");
  write("sys/fs/cgroup/system.slice/selvage.service/memory.max", "1048576\n");
  write("sys/fs/cgroup/system.slice/selvage.service/cpu.stat", "usage_usec 1\nnr_throttled 3\n");
  EXPECT_DOUBLE_EQ(machine().cpu_quota().value(), 1.5);
  EXPECT_EQ(machine().memory_limit(), 1'048'576u);
  EXPECT_EQ(machine().throttled_count(), 3);
}

TEST_F(MachineTest, ControlGroupsInsideAContainer) {  // Its own group is the root.
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_FALSE(machine().cpu_quota().has_value());
  EXPECT_FALSE(machine().memory_limit().has_value());
}

TEST_F(MachineTest, ControlGroupsVersion1) {
  write("proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n");
  write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "200000\n");
  write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/cpu/box/cpu.stat", "nr_throttled 5\n");
  EXPECT_DOUBLE_EQ(machine().cpu_quota().value(), 2);
  EXPECT_FALSE(machine().memory_limit().has_value());
  EXPECT_EQ(machine().throttled_count(), 5);
}

TEST_F(MachineTest, Processor) {
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Chip 9000\nflags\t\t: fma avx2\n");
  write("proc/self/status", "Cpus_allowed:\tff\nCpus_allowed_list:\t0-1,3\n");
  write("proc/stat", "cpu  10 20 30 40 50 60 70 80 90 0\ncpu0 1 2 3 4\n");
  write("sys/devices/system/cpu/online", "0-3\n");
  for (const auto* cpu : {"cpu0", "cpu1", "cpu2", "cpu3"})
    write(std::string("sys/devices/system/cpu/") + cpu + "/topology/thread_siblings_list",
          cpu[3] < '2' ? "0-1\n" : "2-3\n");
  EXPECT_EQ(machine().cpu_model(), "Chip 9000");
  EXPECT_EQ(machine().cpu_flags(), (std::set<std::string>{"avx2", "fma"}));
  EXPECT_EQ(machine().cpus_online(), 4);
  EXPECT_EQ(machine().cpus_allowed(), 3);
  EXPECT_EQ(machine().cores_physical(), 2);
  const auto times = machine().cpu_times();
  EXPECT_EQ(times.total, 360u);
  EXPECT_EQ(times.idle, 90u);
  EXPECT_EQ(times.steal, 80u);
}

TEST_F(MachineTest, NothingThere) {
  EXPECT_EQ(machine().cpu_model(), "unknown");
  EXPECT_EQ(machine().cpus_online(), 1);
  EXPECT_EQ(machine().cpus_allowed(), 1);
  EXPECT_EQ(machine().cores_physical(), 1);
  EXPECT_FALSE(machine().cpu_quota().has_value());
  EXPECT_EQ(machine().cpu_times().total, 0u);
}

TEST(MachineText, Lists) {
  EXPECT_EQ(count_cpu_list("0-3,8"), 5);
  EXPECT_EQ(count_cpu_list("7"), 1);
  EXPECT_EQ(count_cpu_list(""), 0);
  EXPECT_EQ(count_cpu_list("3-1,x,0-"), 0);
  EXPECT_EQ(count_cpu_list("0-99999999999"), 65'536);
  EXPECT_EQ(chosen_word("always [madvise] never"), "madvise");
  EXPECT_EQ(chosen_word("tsc"), "tsc");
  EXPECT_EQ(chosen_word("]["), "][");
}

}  // namespace
}  // namespace selvage::cli
