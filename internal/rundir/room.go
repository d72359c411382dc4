package rundir

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Room is how much may still be written below dir, and what bounds it: the filesystem itself or the account's quota there. Quotas are asked of
// the kernel, which knows those of local filesystems; where a server keeps them only the filesystem's word counts.
func Room(dir string) (free int64, bound string, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	var st unix.Statfs_t
	for {
		if err = unix.Fstatfs(int(f.Fd()), &st); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, "", fmt.Errorf("free space: %w", err)
	}
	free, bound = int64(min(st.Bavail, uint64(1<<62)/uint64(max(st.Bsize, 1))))*st.Bsize, "the filesystem"
	group := uint32(os.Getegid())
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeSetgid != 0 {
		group = info.Sys().(*syscall.Stat_t).Gid // what is made here is the directory's group's
	}
	for _, q := range []struct {
		kind int
		id   uint32
		name string
	}{{userQuota, uint32(os.Geteuid()), "its account's quota"}, {groupQuota, group, "its group's quota"}} {
		if left, ok := quotaLeft(int(f.Fd()), q.kind, q.id); ok && left < free {
			free, bound = left, q.name
		}
	}
	return free, bound, nil
}

// What quotactl(2) is asked: linux/quota.h.
const (
	getQuota   = 0x800007
	userQuota  = 0
	groupQuota = 1
	quotaBlock = 1024 // bytes, in which limits are counted
	withBlocks = 1    // in valid: the limits and the space are filled in
)

// diskQuota is struct if_dqblk.
type diskQuota struct {
	hard, soft, used                 uint64 // used in bytes
	inodesHard, inodesSoft, inodes   uint64
	blocksGraceUntil, inodesGraceEnd uint64
	valid                            uint32
	_                                uint32
}

// quotaLeft is what an account may still write where quotas are kept; false where they are not, or nobody says.
func quotaLeft(fd, kind int, id uint32) (int64, bool) {
	var q diskQuota
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), uintptr(getQuota<<8|kind), uintptr(id), uintptr(unsafe.Pointer(&q)), 0, 0)
	if errno != 0 || q.valid&withBlocks == 0 || q.hard == 0 || q.hard > 1<<50 {
		return 0, false
	}
	return max(0, int64(q.hard*quotaBlock)-int64(min(q.used, 1<<60))), true
}
