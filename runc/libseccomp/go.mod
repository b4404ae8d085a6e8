module github.com/seccomp/libseccomp-golang

go 1.26.8

require byre.dev/libseccomp-golang v0.12.0

replace byre.dev/libseccomp-golang => github.com/seccomp/libseccomp-golang v0.12.0
