//go:build unix

package walfile

import "golang.org/x/sys/unix"

const errQuota = unix.EDQUOT
