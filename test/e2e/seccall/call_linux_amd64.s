// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func call32(trap, a1, a2 uint32) int32
TEXT ·call32(SB), NOSPLIT, $0-20
	MOVL	trap+0(FP), AX
	MOVL	a1+4(FP), BX
	MOVL	a2+8(FP), CX
	XORL	DX, DX
	INT	$0x80
	MOVL	AX, ret+16(FP)
	RET
