// SPDX-License-Identifier: Apache-2.0

// Package seccomp stands between runc and the library of the same import path,
// which it wraps, so that the filters which containers usually have are not
// compiled anew for each of them: under emulation that was a third of the
// making of a container.
//
// runc never has the library load a filter: it adds the rules, takes the
// program out by ExportBPF, patches it and loads it itself. The program is a
// function of the library's version and of the calls before. So a [ScmpFilter]
// keeps its rules back until the program is asked for. If the calls are byte
// for byte those of a program that was compiled when runc was built, that one
// is the answer; else the rules go to the library as they would have before.
//
// The known programs are part of runc's own text: nothing that a container can
// reach decides about them. Package main in ../filters makes them, and the
// linker sets them (-X). What runc does not use of the library is not here, so
// that a new runc which does use it is not built.
package seccomp
