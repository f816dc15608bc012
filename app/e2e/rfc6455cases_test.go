package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// RFC 6455 against the real program, over bare TCP: each case is some bytes and
// what must come back, in the categories of the Autobahn test suite.

// Opcodes (RFC 6455 §5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// masked is one frame of a client. first is its first byte: FIN, RSV, opcode.
func masked(first byte, payload string) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func final(op byte, payload string) []byte { return masked(0x80|op, payload) }

func part(op byte, payload string) []byte { return masked(op, payload) }

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func closeWith(code int, reason string) []byte {
	return final(opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// in cuts bytes into pieces of n that are sent one by one.
func in(n int, b []byte) (pieces [][]byte) {
	for len(b) > n {
		pieces, b = append(pieces, b[:n]), b[n:]
	}
	return append(pieces, b)
}

// pingOf is a ping frame of our protocol with exactly n bytes, which is answered
// with a pong frame of our protocol: the echo of these tests.
func pingOf(n int) string {
	const head, tail = `{"type":"ping","x":"`, `"}`
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

const textPing = `{"type":"ping"}`

// rawCase is what a client sends and what must come back: "text" for a pong of
// our protocol, "pong:payload" for one of RFC 6455's, "close:code" for the end.
// Where want has no close, the connection must live: it is closed by the client
// then, and the answer to that is checked.
type rawCase struct {
	name string
	send [][]byte
	want []string
}

func oneSend(name string, b []byte, want ...string) rawCase {
	return rawCase{name, [][]byte{b}, want}
}

func rawCases() (cases []rawCase) {
	add := func(c ...rawCase) { cases = append(cases, c...) }

	// 1: framing.
	for _, n := range []int{22, 125, 126, 127, 128, 255, 4096, 65535, 65536} {
		add(oneSend(fmt.Sprintf("text of %d", n), final(opText, pingOf(n)), "text"))
		add(rawCase{fmt.Sprintf("text of %d in pieces of 997", n), in(997, final(opText, pingOf(n))), []string{"text"}})
	}
	add(rawCase{"text byte by byte", in(1, final(opText, textPing)), []string{"text"}})
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
		add(oneSend(fmt.Sprintf("binary of %d", n), final(opBinary, strings.Repeat("\xfe", n)), "close:1003"))
	}
	add(oneSend("binary of which only the header comes", final(opBinary, strings.Repeat("b", 1000))[:8], "close:1003"))
	add(oneSend("the first fragment of a binary message", part(opBinary, "b"), "close:1003"))
	add(oneSend("empty text", final(opText, ""), "close:4400"))

	// 2: pings and pongs.
	for _, p := range []string{"", "Hello, world!", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", strings.Repeat("\xfe", 125)} {
		add(oneSend(fmt.Sprintf("ping %.8q", p), final(opPing, p), "pong:"+p))
		add(rawCase{fmt.Sprintf("ping %.8q byte by byte", p), in(1, final(opPing, p)), []string{"pong:" + p}})
		add(oneSend(fmt.Sprintf("unsolicited pong %.8q", p), join(final(opPong, p), final(opPing, "after")), "pong:after"))
	}
	add(oneSend("ping of 126", final(opPing, strings.Repeat("p", 126)), "close:1002"))
	add(oneSend("pong of 126", final(opPong, strings.Repeat("p", 126)), "close:1002"))
	var ten []byte
	var tenPongs []string
	for i := range 10 {
		ten = append(ten, final(opPing, fmt.Sprint("payload-", i))...)
		tenPongs = append(tenPongs, fmt.Sprint("pong:payload-", i))
	}
	add(oneSend("ten pings", ten, tenPongs...))
	add(rawCase{"ten pings byte by byte", in(1, ten), tenPongs})

	// 3: reserved bits.
	for rsv := byte(1); rsv < 8; rsv++ {
		for name, op := range map[string]byte{"text": opText, "binary": opBinary, "ping": opPing, "pong": opPong, "close": opClose} {
			add(oneSend(fmt.Sprintf("RSV %d on %s", rsv, name), masked(0x80|rsv<<4|op, ""), "close:1002"))
		}
		add(oneSend(fmt.Sprintf("RSV %d after a text", rsv), join(final(opText, textPing), masked(0x81|rsv<<4, textPing), final(opPing, "")), "text", "close:1002"))
		add(rawCase{fmt.Sprintf("RSV %d byte by byte", rsv), in(1, masked(0x81|rsv<<4, textPing)), []string{"close:1002"}})
		add(oneSend(fmt.Sprintf("RSV %d on a continuation", rsv), join(part(opText, "{"), masked(0x80|rsv<<4, "}")), "close:1002"))
	}

	// 4: opcodes.
	for _, op := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		add(oneSend(fmt.Sprintf("opcode %d", op), final(op, ""), "close:1002"))
		add(oneSend(fmt.Sprintf("opcode %d with a payload", op), final(op, "reserved"), "close:1002"))
		add(oneSend(fmt.Sprintf("opcode %d after a text", op), join(final(opText, textPing), final(op, ""), final(opPing, "")), "text", "close:1002"))
	}

	// 5: fragments.
	add(
		oneSend("a fragmented ping", join(part(opPing, "fragment1"), final(opContinuation, "fragment2")), "close:1002"),
		oneSend("a fragmented pong", join(part(opPong, "fragment1"), final(opContinuation, "fragment2")), "close:1002"),
		oneSend("a fragmented close", part(opClose, "\x03\xe8"), "close:1002"),
		oneSend("two fragments", join(part(opText, textPing[:5]), final(opContinuation, textPing[5:])), "text"),
		rawCase{"two fragments byte by byte", in(1, join(part(opText, textPing[:5]), final(opContinuation, textPing[5:]))), []string{"text"}},
		oneSend("a ping between", join(part(opText, textPing[:5]), final(opPing, "between"), final(opContinuation, textPing[5:])), "pong:between", "text"),
		rawCase{"a ping between, byte by byte", in(1, join(part(opText, textPing[:5]), final(opPing, "between"), final(opContinuation, textPing[5:]))), []string{"pong:between", "text"}},
		oneSend("a ping and no end of the message", join(part(opText, textPing[:5]), final(opPing, "now")), "pong:now"),
		oneSend("a pong between", join(part(opText, textPing[:5]), final(opPong, "x"), final(opContinuation, textPing[5:])), "text"),
		oneSend("an unstarted continuation", final(opContinuation, "x"), "close:1002"),
		oneSend("an unstarted continuation that goes on", join(part(opContinuation, "x"), final(opText, textPing)), "close:1002"),
		oneSend("an unstarted continuation after a message", join(part(opText, textPing[:5]), final(opContinuation, textPing[5:]), final(opContinuation, "x")), "text", "close:1002"),
		oneSend("a text inside a message", join(part(opText, textPing[:5]), final(opText, textPing)), "close:1002"),
		oneSend("a binary inside a message", join(part(opText, textPing[:5]), final(opBinary, "x")), "close:1002"),
		oneSend("empty fragments", join(part(opText, ""), part(opContinuation, ""), part(opContinuation, textPing), final(opContinuation, "")), "text"),
		oneSend("only empty fragments", join(part(opText, ""), part(opContinuation, ""), final(opContinuation, "")), "close:4400"),
		oneSend("one message in fragments after the other", join(part(opText, textPing[:5]), final(opContinuation, textPing[5:]), part(opText, textPing[:9]), final(opContinuation, textPing[9:])), "text", "text"),
	)
	many := part(opText, textPing[:5])
	var manyPongs []string
	for i := range 300 {
		many = append(many, final(opPing, fmt.Sprint(i))...)
		manyPongs = append(manyPongs, fmt.Sprint("pong:", i))
	}
	add(oneSend("300 pings inside a message", join(many, final(opContinuation, textPing[5:])), append(manyPongs, "text")...))
	bytewise := part(opText, textPing[:1])
	for i := 1; i < len(textPing); i++ {
		bytewise = append(append(bytewise, part(opContinuation, textPing[i:i+1])...), final(opPing, "p")...)
	}
	wantBytewise := make([]string, len(textPing)-1, len(textPing))
	for i := range wantBytewise {
		wantBytewise[i] = "pong:p"
	}
	add(oneSend("a fragment a byte, a ping after each", join(bytewise, final(opContinuation, "")), append(wantBytewise, "text")...))

	// A large message in the pieces that libraries make of it.
	for _, size := range []int{64, 256, 997, 1300, 2046, 4096, 32768} {
		var pieces []byte
		op, text := byte(opText), pingOf(65536)
		for len(text) > size {
			pieces = append(pieces, part(op, text[:size])...)
			op, text = opContinuation, text[size:]
		}
		add(oneSend(fmt.Sprintf("65536 bytes in fragments of %d", size), join(pieces, final(op, text)), "text"))
	}

	// 6: UTF-8.
	quoted := func(s string) string { return `{"type":"ping","x":"` + s + `"}` }
	for _, s := range []string{"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\u0080", "\u07ff", "\u0800", "\uffff", "\ufffe", "\ufeff", "\U00010000", "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufdd0"} {
		text := quoted(s)
		add(oneSend(fmt.Sprintf("UTF-8 %+q", s), final(opText, text), "text"))
		add(rawCase{fmt.Sprintf("UTF-8 %+q byte by byte", s), in(1, final(opText, text)), []string{"text"}})
		split := part(opText, "")
		for i := range len(text) {
			split = append(split, part(opContinuation, text[i:i+1])...)
		}
		add(oneSend(fmt.Sprintf("UTF-8 %+q a byte a fragment", s), join(split, final(opContinuation, "")), "text"))
	}
	for _, s := range []string{
		"\x80", "\xbf", "\x80\xbf\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x80\x80\xaf", "\xf0\x8f\xbf\xbf", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80",
		"\xfe", "\xff", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3\"", "\xe2\x82\"", "\xf0\x9f\x98\"", "\xc3(", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
	} {
		text := quoted(s)
		add(oneSend(fmt.Sprintf("not UTF-8 %+q", s), final(opText, text), "close:1007"))
		add(rawCase{fmt.Sprintf("not UTF-8 %+q byte by byte", s), in(1, final(opText, text)), []string{"close:1007"}})
		add(oneSend(fmt.Sprintf("not UTF-8 %+q over fragments", s), join(part(opText, text[:21]), part(opContinuation, text[21:])), "close:1007"))
		// What is wrong already is refused already, while the rest of the frame is awaited.
		whole := final(opText, text+strings.Repeat("x", 1000))
		add(oneSend(fmt.Sprintf("not UTF-8 %+q, at once", s), whole[:8+len(text)], "close:1007"))
	}
	for _, s := range []string{"\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xce\xba\xe1\xbd"} {
		add(oneSend(fmt.Sprintf("cut short %+q", s), final(opText, s), "close:1007"))
		add(oneSend(fmt.Sprintf("cut short %+q after fragments", s), join(part(opText, s), final(opContinuation, "")), "close:1007"))
	}

	// 7: the end.
	reason := strings.Repeat("r", 123)
	add(
		oneSend("close without a code", final(opClose, ""), "close:1000"),
		oneSend("close of one byte", final(opClose, "\x03"), "close:1002"),
		oneSend("close with a long reason", closeWith(1000, reason), "close:1000"),
		oneSend("close with a reason too long", closeWith(1000, reason+"r"), "close:1002"),
		oneSend("close with a reason that is not UTF-8", closeWith(1000, "\xce\xba\xed\xa0\x80edited"), "close:1007"),
		oneSend("close with a reason cut short", closeWith(1000, "caf\xc3"), "close:1007"),
		oneSend("close with a bad code and a bad reason", closeWith(1005, "\xff"), "close:1002"),
		oneSend("close twice", join(closeWith(1000, ""), closeWith(1001, "")), "close:1000"),
		oneSend("a ping after close", join(closeWith(1000, ""), final(opPing, "late")), "close:1000"),
		oneSend("a message after close", join(final(opText, textPing), closeWith(1000, ""), final(opText, textPing)), "text", "close:1000"),
		oneSend("what is no frame after close", join(closeWith(3000, ""), []byte{0xff, 0xff, 0xff}), "close:3000"),
		oneSend("close inside a message", join(part(opText, textPing[:5]), closeWith(1000, "")), "close:1000"),
		oneSend("close inside a message that is completed", join(part(opText, textPing[:5]), closeWith(4000, ""), final(opContinuation, textPing[5:])), "close:4000"),
		oneSend("a bad close inside a message", join(part(opText, textPing[:5]), closeWith(1006, ""), final(opContinuation, textPing[5:])), "close:1002"),
		oneSend("a ping before close", join(final(opPing, "last"), closeWith(1000, "")), "pong:last", "close:1000"),
	)
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4401, 4999} {
		add(oneSend(fmt.Sprint("close ", code), closeWith(code, "reason"), fmt.Sprint("close:", code)))
		add(rawCase{fmt.Sprint("close ", code, " byte by byte"), in(1, closeWith(code, "")), []string{fmt.Sprint("close:", code)}})
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 65535} {
		add(oneSend(fmt.Sprint("close ", code), closeWith(code, ""), "close:1002"))
		add(oneSend(fmt.Sprint("close ", code, " with a reason"), closeWith(code, "reason"), "close:1002"))
	}

	// 9: limits. What a header announces is refused without the payload.
	announce := func(first byte, length ...byte) []byte {
		return append(append([]byte{first}, length...), 1, 2, 3, 4)
	}
	add(
		oneSend("one byte too many", final(opText, pingOf(65537)), "close:1009"),
		oneSend("one byte too many, announced", final(opText, pingOf(65537))[:14], "close:1009"),
		oneSend("2^63-1 bytes, announced", announce(0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "close:1009"),
		oneSend("2^63 bytes, announced", announce(0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0), "close:1002"),
		oneSend("fragments that are too many bytes together", join(part(opText, pingOf(60000)), final(opContinuation, strings.Repeat(" ", 5537))), "close:1009"),
		oneSend("a fragment that would be, announced", join(part(opText, pingOf(60000)), final(opContinuation, strings.Repeat(" ", 5537))[:8]), "close:1009"),
		oneSend("fragments that are just not", join(part(opText, pingOf(60000)), final(opContinuation, strings.Repeat(" ", 5536))), "text"),
		oneSend("a length of 5 in two bytes", announce(0x81, 0x80|126, 0, 5), "close:1002"),
		oneSend("a length of 125 in two bytes", announce(0x81, 0x80|126, 0, 125), "close:1002"),
		oneSend("a length of 126 in eight bytes", announce(0x81, 0x80|127, 0, 0, 0, 0, 0, 0, 0, 126), "close:1002"),
		oneSend("a length of 65535 in eight bytes", announce(0x81, 0x80|127, 0, 0, 0, 0, 0, 0, 0xff, 0xff), "close:1002"),
		oneSend("a ping's length in two bytes", announce(0x89, 0x80|126, 0, 1), "close:1002"),
	)
	for name, op := range map[string]byte{"text": opText, "binary": opBinary, "ping": opPing, "pong": opPong, "close": opClose} {
		add(oneSend("unmasked "+name, []byte{0x80 | op, 0}, "close:1002"))
	}
	add(oneSend("an unmasked continuation", join(part(opText, "{"), []byte{0x80, 1, '}'}), "close:1002"))

	// Each frame counts towards a session's rate, 1,000 at once; sixteen fragments
	// with something in them count as one.
	add(
		oneSend("endless empty continuations", join(part(opText, ""), bytes.Repeat(part(opContinuation, ""), 2500)), "close:4429"),
		oneSend("endless fragments of a byte", join(part(opText, "{"), bytes.Repeat(part(opContinuation, " "), 30000)), "close:4429"),
		oneSend("endless pongs", bytes.Repeat(final(opPong, ""), 2500), "close:4429"),
		oneSend("endless pings inside a message", join(part(opText, ""), bytes.Repeat(final(opPing, ""), 2500)), "pongs", "close:4429"),
	)
	return cases
}
