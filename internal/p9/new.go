// SPDX-License-Identifier: Apache-2.0

package p9

// New returns an empty message of type t, nil if there is none.
func New(t Type) Message {
	if int(t) < len(makers) && makers[t] != nil {
		return makers[t]()
	}
	return nil
}

var makers = [...]func() Message{
	TypeRlerror:      func() Message { return new(Rlerror) },
	TypeTstatfs:      func() Message { return new(Tstatfs) },
	TypeRstatfs:      func() Message { return new(Rstatfs) },
	TypeTlopen:       func() Message { return new(Tlopen) },
	TypeRlopen:       func() Message { return new(Rlopen) },
	TypeTlcreate:     func() Message { return new(Tlcreate) },
	TypeRlcreate:     func() Message { return new(Rlcreate) },
	TypeTsymlink:     func() Message { return new(Tsymlink) },
	TypeRsymlink:     func() Message { return new(Rsymlink) },
	TypeTmknod:       func() Message { return new(Tmknod) },
	TypeRmknod:       func() Message { return new(Rmknod) },
	TypeTrename:      func() Message { return new(Trename) },
	TypeRrename:      func() Message { return new(Rrename) },
	TypeTreadlink:    func() Message { return new(Treadlink) },
	TypeRreadlink:    func() Message { return new(Rreadlink) },
	TypeTgetattr:     func() Message { return new(Tgetattr) },
	TypeRgetattr:     func() Message { return new(Rgetattr) },
	TypeTsetattr:     func() Message { return new(Tsetattr) },
	TypeRsetattr:     func() Message { return new(Rsetattr) },
	TypeTxattrwalk:   func() Message { return new(Txattrwalk) },
	TypeRxattrwalk:   func() Message { return new(Rxattrwalk) },
	TypeTxattrcreate: func() Message { return new(Txattrcreate) },
	TypeRxattrcreate: func() Message { return new(Rxattrcreate) },
	TypeTreaddir:     func() Message { return new(Treaddir) },
	TypeRreaddir:     func() Message { return new(Rreaddir) },
	TypeTfsync:       func() Message { return new(Tfsync) },
	TypeRfsync:       func() Message { return new(Rfsync) },
	TypeTlock:        func() Message { return new(Tlock) },
	TypeRlock:        func() Message { return new(Rlock) },
	TypeTgetlock:     func() Message { return new(Tgetlock) },
	TypeRgetlock:     func() Message { return new(Rgetlock) },
	TypeTlink:        func() Message { return new(Tlink) },
	TypeRlink:        func() Message { return new(Rlink) },
	TypeTmkdir:       func() Message { return new(Tmkdir) },
	TypeRmkdir:       func() Message { return new(Rmkdir) },
	TypeTrenameat:    func() Message { return new(Trenameat) },
	TypeRrenameat:    func() Message { return new(Rrenameat) },
	TypeTunlinkat:    func() Message { return new(Tunlinkat) },
	TypeRunlinkat:    func() Message { return new(Runlinkat) },
	TypeTversion:     func() Message { return new(Tversion) },
	TypeRversion:     func() Message { return new(Rversion) },
	TypeTauth:        func() Message { return new(Tauth) },
	TypeRauth:        func() Message { return new(Rauth) },
	TypeTattach:      func() Message { return new(Tattach) },
	TypeRattach:      func() Message { return new(Rattach) },
	TypeTflush:       func() Message { return new(Tflush) },
	TypeRflush:       func() Message { return new(Rflush) },
	TypeTwalk:        func() Message { return new(Twalk) },
	TypeRwalk:        func() Message { return new(Rwalk) },
	TypeTread:        func() Message { return new(Tread) },
	TypeRread:        func() Message { return new(Rread) },
	TypeTwrite:       func() Message { return new(Twrite) },
	TypeRwrite:       func() Message { return new(Rwrite) },
	TypeTclunk:       func() Message { return new(Tclunk) },
	TypeRclunk:       func() Message { return new(Rclunk) },
	TypeTremove:      func() Message { return new(Tremove) },
	TypeRremove:      func() Message { return new(Rremove) },
}
