// SPDX-License-Identifier: Apache-2.0

package p9

import "strconv"

// Type is the type byte of a message.
type Type uint8

// The message types of 9P2000.L.
const (
	TypeRlerror      Type = 7
	TypeTstatfs      Type = 8
	TypeRstatfs      Type = 9
	TypeTlopen       Type = 12
	TypeRlopen       Type = 13
	TypeTlcreate     Type = 14
	TypeRlcreate     Type = 15
	TypeTsymlink     Type = 16
	TypeRsymlink     Type = 17
	TypeTmknod       Type = 18
	TypeRmknod       Type = 19
	TypeTrename      Type = 20
	TypeRrename      Type = 21
	TypeTreadlink    Type = 22
	TypeRreadlink    Type = 23
	TypeTgetattr     Type = 24
	TypeRgetattr     Type = 25
	TypeTsetattr     Type = 26
	TypeRsetattr     Type = 27
	TypeTxattrwalk   Type = 30
	TypeRxattrwalk   Type = 31
	TypeTxattrcreate Type = 32
	TypeRxattrcreate Type = 33
	TypeTreaddir     Type = 40
	TypeRreaddir     Type = 41
	TypeTfsync       Type = 50
	TypeRfsync       Type = 51
	TypeTlock        Type = 52
	TypeRlock        Type = 53
	TypeTgetlock     Type = 54
	TypeRgetlock     Type = 55
	TypeTlink        Type = 70
	TypeRlink        Type = 71
	TypeTmkdir       Type = 72
	TypeRmkdir       Type = 73
	TypeTrenameat    Type = 74
	TypeRrenameat    Type = 75
	TypeTunlinkat    Type = 76
	TypeRunlinkat    Type = 77
	TypeTversion     Type = 100
	TypeRversion     Type = 101
	TypeTauth        Type = 102
	TypeRauth        Type = 103
	TypeTattach      Type = 104
	TypeRattach      Type = 105
	TypeTflush       Type = 108
	TypeRflush       Type = 109
	TypeTwalk        Type = 110
	TypeRwalk        Type = 111
	TypeTread        Type = 116
	TypeRread        Type = 117
	TypeTwrite       Type = 118
	TypeRwrite       Type = 119
	TypeTclunk       Type = 120
	TypeRclunk       Type = 121
	TypeTremove      Type = 122
	TypeRremove      Type = 123
)

// Requests beyond 9P2000.L, for clients that the server's AttrMore has told of
// them (docs/protocol.md, kernel/patches).
const (
	TypeTlookup    Type = 200
	TypeRlookup    Type = 201
	TypeTopenat    Type = 202
	TypeRopenat    Type = 203
	TypeTcreateat  Type = 204
	TypeRcreateat  Type = 205
	TypeTrenameat2 Type = 206
	TypeRrenameat2 Type = 207
	TypeTallocate  Type = 208
	TypeRallocate  Type = 209
	TypeTtmpfile   Type = 210
	TypeRtmpfile   Type = 211
	TypeTopendir   Type = 212
	TypeRopendir   Type = 213
	TypeTmapped    Type = 214
	TypeRmapped    Type = 215
)

// stems are the messages' names without T or R, by request type.
var stems = map[Type]string{
	TypeTstatfs: "statfs", TypeTlopen: "lopen", TypeTlcreate: "lcreate",
	TypeTsymlink: "symlink", TypeTmknod: "mknod", TypeTrename: "rename",
	TypeTreadlink: "readlink", TypeTgetattr: "getattr", TypeTsetattr: "setattr",
	TypeTxattrwalk: "xattrwalk", TypeTxattrcreate: "xattrcreate",
	TypeTreaddir: "readdir", TypeTfsync: "fsync", TypeTlock: "lock",
	TypeTgetlock: "getlock", TypeTlink: "link", TypeTmkdir: "mkdir",
	TypeTrenameat: "renameat", TypeTunlinkat: "unlinkat",
	TypeTversion: "version", TypeTauth: "auth", TypeTattach: "attach",
	TypeTflush: "flush", TypeTwalk: "walk", TypeTread: "read",
	TypeTwrite: "write", TypeTclunk: "clunk", TypeTremove: "remove",
	TypeTlookup: "lookup", TypeTopenat: "openat", TypeTcreateat: "createat",
	TypeTrenameat2: "renameat2", TypeTallocate: "allocate", TypeTtmpfile: "tmpfile",
	TypeTopendir: "opendir", TypeTmapped: "mapped",
}

// String returns the message's name in the protocol's own spelling.
func (t Type) String() string {
	if t == TypeRlerror {
		return "Rlerror"
	}
	if s, ok := stems[t&^1]; ok {
		return string("TR"[t&1]) + s
	}
	return "message " + strconv.Itoa(int(t))
}
