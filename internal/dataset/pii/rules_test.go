package pii_test

import (
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// found is what a scanner of both sets finds of medium confidence or more, as "entity:text".
func found(t *testing.T, text string, least forge.Confidence) string {
	t.Helper()
	var out []string
	for _, f := range pii.New(pii.Options{National: true}).Scan(nil, []byte(text)) {
		if pii.AtLeast(f.Confidence, least) {
			out = append(out, fmt.Sprintf("%s:%s", f.Entity, text[f.Start:f.End]))
		}
	}
	return strings.Join(out, " | ")
}

func TestWhatIsFound(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"write to ann@example.org, please", "email:ann@example.org"},
		{"mail o'brien+x@sub.example.co.uk.", "email:o'brien+x@sub.example.co.uk"},
		{"<jürgen.müller@beispiel.de>", "email:jürgen.müller@beispiel.de"},
		{"邮箱ann@example.com请联系", "email:ann@example.com"},
		{`{"t":"line\nann@example.com"}`, "email:ann@example.com"},
		{`"john doe"@example.org wrote`, `email:"john doe"@example.org`},
		{"ann [at] example [dot] org", "email:ann [at] example [dot] org"},
		{"ann＠example．com", "email:ann＠example．com"},
		{"mail ann@example.com.Please", "email:ann@example.com"},
		{"call 555-123-4567 now", "phone:555-123-4567"},
		{"(212) 555-0123", "phone:(212) 555-0123"},
		{"+1-212-555-0123x456", "phone:+1-212-555-0123x456"},
		{"+44 (0)20 7946 0958", "phone:+44 (0)20 7946 0958"},
		{"+49 30 901820, +33 1 23 45 67 89", "phone:+49 30 901820 | phone:+33 1 23 45 67 89"},
		{"Tel.: 030/1234567", "phone:030/1234567"},
		{"06 12 34 56 78", "phone:06 12 34 56 78"},
		{"电话13812345678。", "phone:13812345678"},
		{"my number is 5551234567, call me", "phone:5551234567"},
		{"001-212-555-0123", "phone:001-212-555-0123"},
		{"+７ ９１６ １２３ ４５ ６７", "phone:+７ ９１６ １２３ ４５ ６７"},
		{"card 4111 1111 1111 1111 exp 12/26", "credit_card:4111 1111 1111 1111"},
		{"4111-1111-1111-1111", "credit_card:4111-1111-1111-1111"},
		{"amex 3782 822463 10005", "credit_card:3782 822463 10005"},
		{"4111\u00a01111\u00a01111\u00a01111", "credit_card:4111\u00a01111\u00a01111\u00a01111"},
		{"pay 41\u200b11111111111111 to", "credit_card:41\u200b11111111111111"},
		{"IBAN: DE89 3704 0044 0532 0130 00 bitte", "iban:DE89 3704 0044 0532 0130 00"},
		{"GB82WEST12345698765432", "iban:GB82WEST12345698765432"},
		{"SSN 536-22-1234", "us_ssn:536-22-1234"},
		{"ssn: 536221234", "us_ssn:536221234"},
		{"from 81.2.69.142 port 22", "ip_address:81.2.69.142"},
		{"http://8.8.4.4/dns", "ip_address:8.8.4.4"},
		{"2001:4860:4860::8888", "ip_address:2001:4860:4860::8888"},
		{"host 4a1f:2b3c:9d8e:7f60:1234:5678:9abc:def0.", "ip_address:4a1f:2b3c:9d8e:7f60:1234:5678:9abc:def0"},
		{"key AKIAIOSFODNN7EXAMPLE", "secret_aws_access_key:AKIAIOSFODNN7EXAMPLE"},
		{"ghp_" + strings.Repeat("aB3dEf7Gh", 4), "secret_github:ghp_" + strings.Repeat("aB3dEf7Gh", 4)},
		{"john2024@example.com", "email:john2024@example.com"},
		{"j-4.x_9@a1.example.com", "email:j-4.x_9@a1.example.com"},
		{"postgres://app:s3cr3t-pw@db.example.com/x", "secret_url_password:s3cr3t-pw"},
		{`password = "hunter22"`, "secret_password:hunter22"},
		{"DB_PASSWORD=Tr0ub4dor&3", "secret_password:Tr0ub4dor"},
		{`"api_key": "9f8e7d6c5b4a39281706f5e4d3c2b1a0"`, "secret_api_key:9f8e7d6c5b4a39281706f5e4d3c2b1a0"},
		{"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY", "secret_aws_secret_key:wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY"},
		{"00:1b:44:11:3a:b7", "mac_address:00:1b:44:11:3a:b7"},
		{"NINO AB123456C, AB 12 34 56 C", "uk_nino:AB123456C | uk_nino:AB 12 34 56 C"},
		{"NHS number 943 476 5919", "uk_nhs:943 476 5919"},
		{"CPF 529.982.247-25", "br_cpf:529.982.247-25"},
		{"DNI 12345678Z", "es_nif:12345678Z"},
		{"RSSMRA85T10A562S", "it_codice_fiscale:RSSMRA85T10A562S"},
		{"hetu 131052-308T", "fi_hetu:131052-308T"},
		{"S1234567D", "sg_nric:S1234567D"},
		{"11010519491231002X", "cn_resident_id:11010519491231002X"},
		{"Aadhaar 2341 2341 2346", "in_aadhaar:2341 2341 2346"},
	} {
		if got := found(t, c.text, forge.ConfidenceMedium); got != c.want {
			t.Errorf("%q\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestWhatIsNone(t *testing.T) {
	for _, text := range []string{
		"git clone git@github.com:org/repo.git", "ssh deploy@prod.example.com", "scp x user@host.example.com:/srv/", "icon@2x.png", "npm i react@18.2.0 @types/node@20.1.2", "@app.route('/x')",
		"pip install pkg==1.2.3.4", "v1.2.3.4", "version 12.34.56.78", "section 4.3.2.1", "Chrome/120.0.6099.109", "192.168.1.1 10.0.0.1 127.0.0.1 203.0.113.7 169.254.1.1 224.0.0.1",
		"::1 fe80::1 2001:db8::1 ff02::1", "at 10:30:45 on 2024-01-15T10:30:45Z", "2024-01-15 10:30:45.123456", "timestamp 1700000000", "1700000000123", "order #4539578763621486", "order number 4539578763621486",
		"a3bb189e-8bf9-3888-9912-ace4bf8e2a01", "12345678-1234-1234-1234-123456789012", "ISBN 978-3-16-148410-0", "ISBN 0-306-40615-2", "52.5200066, 13.404954", "part no. 555-123-4567", "d41d8cd98f00b204e9800998ecf8427e",
		"max_tokens: 4096", "password: required", "password = os.environ['PW']", "api_key = \"YOUR_API_KEY_HERE\"", "token: str", "std::vector<int>::iterator", "a[1::2]", "1,234,567,890", "12 345 678", "3.14159265358979",
		"SKU 4539-5787", "0x4539578763621486", "password=[SECRET_PASSWORD]", "[EMAIL] [PHONE] [CREDIT_CARD]", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "01/02/2024 - 03/04/2024", "01-02-2024 10:30",
		"EAN 4006381333931", "1990-1999 2000-2009", "10.1000/182", "user@host", "foo@bar.service",
	} {
		if got := found(t, text, forge.ConfidenceMedium); got != "" {
			t.Errorf("%q: %q", text, got)
		}
	}
}
