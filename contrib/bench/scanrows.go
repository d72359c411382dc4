package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// The rows are made up in the likeness of a support desk's log: most of a row is prose, one in three has code or a list with escapes, one in six is
// in another script, one in twelve names a person's address, card or number, which is about what real ones do.
const scanBytes = 2_000_000_000

var (
	words = []string{"the", "a", "of", "to", "and", "in", "that", "it", "for", "is", "was", "on", "with", "as", "at", "by", "not", "this", "but", "from", "or", "have", "an", "they", "which", "one",
		"you", "were", "all", "their", "would", "there", "we", "her", "been", "has", "when", "who", "will", "no", "more", "if", "out", "so", "up", "said", "what", "about", "than", "into",
		"them", "can", "only", "other", "time", "new", "some", "could", "these", "two", "may", "first", "then", "do", "any", "like", "my", "now", "over", "such", "our", "even", "most",
		"after", "also", "made", "did", "many", "off", "before", "must", "well", "back", "through", "years", "much", "where", "your", "way", "down", "should", "because", "long", "each",
		"account", "invoice", "refund", "password", "settings", "browser", "support", "delivery", "address", "subscription", "device", "network", "printer", "update", "version", "restart",
		"connection", "database", "query", "function", "variable", "gradient", "learning", "temperature", "measurement", "container", "certificate", "schedule", "reservation", "partition"}
	foreign = []string{"Können Sie mir bitte sagen, wann die Lieferung kommt?", "Die Größe passt nicht, ich möchte sie zurückschicken.", "Où puis-je télécharger ma facture ?", "J’ai déjà réinstallé l’application deux fois.",
		"¿Cómo cambio la contraseña de mi cuenta?", "パスワードをリセットする方法を教えてください。", "アップデート後に接続できなくなりました。", "我的订单还没有发货,请帮我查一下。", "请问怎么修改收货地址?", "Как мне отменить подписку?",
		"Спасибо, теперь всё работает.", "감사합니다, 잘 됩니다.", "مرحبا، أحتاج إلى مساعدة في الفاتورة.", "Great, that worked 🎉 thank you so much 🙏", "Não consigo entrar na minha conta.", "Zażółć gęślą jaźń — to test."}
	snippets = []string{"```python\ndef mean(xs):\n    return sum(xs) / len(xs)  # \"empty\" raises\n```", "1. Open \"Settings\"\n2. Choose \"Network\"\n3. Press \"Reset\"\n", "```sh\ngrep -rn 'error' src/ | sort | uniq -c\n```",
		"SELECT id, total FROM orders WHERE state = 'open' AND total > 100.00;\n", "{\"retry\": true, \"after\": 30}\n", "C:\\Users\\Public\\Documents\\report_2024-03-01_v2.1.0.pdf", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8\n\tfix: off by one\n",
		"| name | size |\n|---|---|\n| a.bin | 1048576 |\n", "see https://docs.example.org/guide/v2/install?lang=en#step-3 for more\n"}
	people = []string{"anna.berg", "j.smith", "li.wei", "m.garcia", "olga_p", "tom.baker", "fatima.z", "kenji", "sara.lund", "d.novak"}
)

// chatRow appends one row and its line feed. It is the n-th, and no other is equal to it.
func chatRow(b []byte, r *rand.Rand, n int) []byte {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var row struct {
		ID       string    `json:"id"`
		Messages []message `json:"messages"`
	}
	row.ID = "c" + strconv.Itoa(n)
	if r.IntN(4) == 0 {
		row.Messages = append(row.Messages, message{"system", "You are a helpful assistant of the support desk."})
	}
	for range 1 + r.IntN(4) {
		row.Messages = append(row.Messages, message{"user", string(prose(nil, r, 8+r.IntN(60)))}, message{"assistant", string(prose(nil, r, 20+r.IntN(160)))})
	}
	text, err := json.Marshal(row)
	if err != nil {
		panic(err) // structs of strings
	}
	if r.IntN(4) > 0 {
		return append(append(b, text...), '\n')
	}
	for _, c := range string(text) { // as Python's json.dumps writes it where nobody says otherwise
		switch {
		case c < utf8.RuneSelf:
			b = append(b, byte(c))
		case c > 0xffff:
			hi, lo := utf16.EncodeRune(c)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(b, '\n')
}

func prose(b []byte, r *rand.Rand, n int) []byte {
	if r.IntN(6) == 0 {
		b = append(append(b, foreign[r.IntN(len(foreign))]...), ' ')
	}
	for i := range n {
		w := words[min(r.IntN(len(words)), r.IntN(len(words)))] // the first ones more often
		if i == 0 || b[len(b)-1] == '\n' {
			b = append(append(b, w[0]&^0x20), w[1:]...)
			continue
		}
		switch r.IntN(14) {
		case 0:
			b = append(b, ", "...)
		case 1:
			b = append(b, ". "...)
		default:
			b = append(b, ' ')
		}
		b = append(b, w...)
		if r.IntN(40) == 0 {
			b = strconv.AppendInt(append(b, ' '), r.Int64N(100_000), 10)
		}
	}
	b = append(b, '.')
	if r.IntN(9) == 0 {
		b = append(append(b, '\n'), snippets[r.IntN(len(snippets))]...)
	}
	if r.IntN(60) == 0 {
		b = personal(append(b, ' '), r)
	}
	return b
}

// personal is something that a scanner finds. None of it is anybody's.
func personal(b []byte, r *rand.Rand) []byte {
	switch r.IntN(6) {
	case 0, 1:
		return fmt.Appendf(b, "Write to %s%d@example.org please.", people[r.IntN(len(people))], r.IntN(100))
	case 2:
		return append(b, "My card number is 4111 1111 1111 1111."...)
	case 3:
		return fmt.Appendf(b, "Call me at +1 415 555 01%02d.", r.IntN(100))
	case 4:
		return append(b, "The IBAN is DE89 3704 0044 0532 0130 00."...)
	default:
		return fmt.Appendf(b, "It was sent from 93.184.%d.%d.", r.IntN(256), r.IntN(256))
	}
}

// scanRows is the file of rows in the cache, made where it is not there yet. Whoever has a full disk may remove it.
func scanRows(size int64) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "forge-ml", "bench")
	path := filepath.Join(dir, fmt.Sprintf("rows-2-%d.jsonl", size))
	if st, err := os.Stat(path); err == nil && st.Size() >= size {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, ".rows-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	began := time.Now()
	w, r, b := bufio.NewWriterSize(f, 1<<20), rand.New(rand.NewPCG(1, 2)), []byte(nil)
	var written int64
	for n := 0; written < size; n++ {
		b = chatRow(b[:0], r, n)
		written += int64(len(b))
		if _, err := w.Write(b); err != nil {
			return "", errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(w.Flush(), f.Close(), os.Rename(f.Name(), path)); err != nil {
		return "", err
	}
	fmt.Printf("  %s made in %.0f s\n", path, time.Since(began).Seconds())
	return path, nil
}
