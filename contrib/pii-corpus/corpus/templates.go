package corpus

// The templates: {kind} is filled with personal data, {!kind} with what only looks like it, {~kind} with neither.
var (
	personal = []string{
		"You can reach me at {email}.", "Please send the statement to {email}, thanks!", "From: {~name} <{email}>\nTo: {email}\nSubject: invoice", "Contact: {email};{email}", "cc {email} and {email} please", "user {email} logged in at {~time}", `{"user": "{~name}", "email": "{email}"}`,
		"{~name},{email},{phone},active", "| {~name} | {email} | {phone} |", "author = \"{~name} <{email}>\"", "mailto:{email}?subject=hi", "邮箱：{email}，谢谢", "Meine Adresse ist {email}, Telefon {phone}.", "https://example.com/unsubscribe?u={email}&k=1",
		"Call me on {phone} after {~time}.", "Phone: {phone}", "phone={phone}", "Tel. {phone} / Fax {phone}", "My number is {phone}, text me.", "They're not answering at {phone}", "{phone} is my mobile", "Mobile: {phone}\nDesk: {phone}\nFax: {phone}", "{phone} office\n{phone} fax",
		"I would like to stop receiving messages to {phone}", "Please have the manager call me at {phone} I'd like to join accounts", "Rufen Sie uns an: {phone}", "Appelez-moi au {phone} s'il vous plaît", "Mi teléfono es {phone}.", "Il mio cellulare: {phone}", "电话：{phone}", "携帯は{phone}です", "тел. {phone}", "Ring mig på {phone}",
		`{"phone_number": "{phone}"}`, "whatsapp {phone}", "\u260e {phone}", "Emergency contact - {~name} - {phone}", "{~name}\n{phone}\n{email}", "We tried {phone} twice, nobody picked up.", "(see {phone})",
		"Call me at {digits}.", "phone: {digits}", "my mobile number is {digits}", "Telefon {digits}", "电话{digits}", `"phone": "{digits}"`, "tel {digits}", "whatsapp me: {digits}", "didn't get any message on my registered mobile {digits}", "Móvil: {digits}", "Tél : {digits}",
		"My credit card {card} has been lost, Can I request you to block it.", "Need to change billing date of my card {card}", "card number {card} is lost", "I want to increase limit on my card # {card} for a while", "What is the limit for card {card}?", "Visa {card} exp 09/27 cvv {~n}", `{"card_number": "{card}", "exp": "12/28"}`,
		"Kreditkarte: {card}", "tarjeta {card}", "信用卡号：{card}", "cc={card}", "Please charge my credit card. Number is {card}", "paid with {card}", "{~name};{card};12/29", "What's your credit card? {card}",
		"My IBAN is {iban}", "Bitte überweisen Sie auf {iban}.", "charges applied for money transfer from {iban} to other accounts", "IBAN:{iban}", "account {iban}, BIC COBADEFF", "| {~name} | {iban} |", "{iban}", `"iban":"{iban}"`,
		"His social security number is {ssn}", "Here's my SSN: {ssn}", "SSN {ssn9}", "ssn={ssn}", "{~name}, {ssn}, born {!date}", "social security no. {ssn9} on file", "Applicant {~name} ({ssn})",
		"I can't browse to your site, keep getting address {ip} blocked error", "{!moment} INFO login from {ip} ok", `{ip} - - [10/Oct/2023:13:55:36 +0000] "GET / HTTP/1.1" 200 2326`, "ping {ip}", "client_ip={ip}", "Failed password for root from {ip} port 52234 ssh2", "http://{ip}:8080/status", "my server's IP is {ip}",
		"Inject SELECT * FROM Users WHERE client_ip = {ip}", `{"remote_addr":"{ip}"}`, "blocked {ip} for 10 minutes", "X-Forwarded-For: {ip}",
		"export OPENAI_API_KEY={key}", "token: {key}", "here is my key {key} please debug", "Authorization: Bearer {key}", "curl -H 'X-Api-Key: {key}' https://api.example.com", "key = \"{key}\"", "I pasted {key} by accident", "{key}",
		"DB_PASSWORD={pw}", `password = "{pw}"`, "password: {pw}", `{"username": "admin", "password": "{pw}"}`, "my password is: {pw}", "postgres://app:{pw}@db.internal:5432/app", "https://bob:{pw}@example.com/x", "mongodb+srv://svc:{pw}@cluster0.mongodb.net",
		"api_key: {token}", `API_KEY = "{token}"`, `"client_secret": "{token}"`, "auth_token={token}", "aws_secret_access_key = {aws}", "AWS_SECRET_ACCESS_KEY={aws}", "{pem}", "key:\n{pem}\n",
		"MAC {mac}", "ether {mac} txqueuelen 1000", "device {mac} joined", "NI number: {nino}", "NINO {nino}", "NHS number {nhs}", "Patient NHS no: {nhs}", "DNI {nif}", "Con NIF {nif} y domicilio en Madrid", "CPF: {cpf}", "cpf {cpf} do cliente", "BSN {bsn}", "burgerservicenummer: {bsn}", "Personnummer: {personnummer}",
	}
	lookalikes = []string{
		"Your order {!luhn} has shipped.", "Order #{!luhn}", "order number: {!luhn}", "tracking no. {!luhn} (DHL)", `{"order_id": {!luhn}}`, "Invoice {!luhn} is overdue", "Bestellnummer {!luhn}", "transaction id {!luhn}", "ref: {!luhn}", "ticket {!luhn12}", "serial {!luhn12}", "card {!nocard} was declined by the check",
		"Upgrade to {!version} today", "pip install torch=={!version}", "version {!v4} is out", "v{!v4}", "see section {!v4}", "firmware {!v4}", "Chrome/{!version} Safari/{!version}", "pkg-{!v4}.tar.gz", "release {!version} fixes it", "requires libfoo >= {!version}", "§ {!v4} of the contract", "kernel: {!v4}",
		"commit {!hash}", "sha256:{!hash}", "md5 {!hash}  file.iso", "id={!uuid}", "request {!uuid} took {~n} ms", "/v1/items/{!uuid}/edit", "ISBN {!isbn}", "ISBN-10: {!isbn10}", "isbn {!isbn10}", "Read {!isbn} first", "listening on {!private}:8080", "server {!private} is internal", "inet {!private}/24", "host {!private} unreachable",
		"git clone {!git}", "remote: {!git}", "scp build.tgz {!scp}", "git remote add up {!sshurl}", "{!decorator}('/x')\ndef f(): pass", "src/{!asset}", "npm i {!package}", "systemctl restart {!unit}", "ts={!epoch}", "timestamp {!epoch}", "created_at: {!epoch}", `{"time": {!epoch}}`, "{!moment} WARN retry in 5s", "{!moment} [worker-{~n}] done",
		"on {!date} at {!time}", "from {!date} to {!date}", "born {!date}", "coordinates {!place}", "lat/lon: {!place}", "loss={!decimal}", "population {!decimal}", "value: {!decimal}", "part no. {!part}", "SKU {!part}", "model {!part}", "part number: {!part} in stock", "order {!order}", "Order ID: {!order}", "tracking {!track}", "tracking number {!track}",
		"barcode {!ean}", "EAN {!ean}", "the number {!badssn} was never issued", "serial {!badssn}", "reference {!badiban}", "{!slice}", "{!nopass}", "{!nopass}\n{!nopass}", "OPENAI_API_KEY={!placekey}", "use {!placekey} here", "{!pubkey}", "{!sshkey} comment", "data:image/png;base64,{!blob}", "IMEI {!imei}", "follow {!handle}", "{!handle}:~$ ls",
		"MD5:{!finger}", "color: {!color}", "tweet {!snow}", "user_id={!snow}", "arXiv:{!arxiv}", "doi:{!doi}", "{!time} -> {!time}", "job {!stamp}", "backup-{!stamp}.tar", "steps 1000 2000 3000 4000 5000", "for i in range({!decimal}):", "seed: {!decimal}", "row {!luhn12} of table", "build {!version}+{!hash}", "session {!uuid}", "batch {!part}",
	}
	mixed = []string{
		"Order {!luhn} for {~name}, call {phone}.", "{!moment} INFO user={email} ip={ip} req={!uuid}", "{!order},{~name},{email},{!date}", "Invoice {!order}: paid with card {card} on {!date}", "id,email,phone\n{!order},{email},{phone}\n{!order},{email},{phone}", "Ticket {!order}\nFrom: {email}\nPhone: {phone}\nVersion: {!version}",
		`{"id": "{!uuid}", "email": "{email}", "ip": "{ip}", "ts": {!epoch}}`, "# clone with {!git}, ask {email}", "def send(to=\"{email}\", version=\"{!version}\"): ...", "host={!private} public={ip}", "Part {!part}, questions: {phone}", "User: my card is {card}\nAssistant: thanks, order {!luhn} is placed",
		"| id | phone | date |\n|---|---|---|\n| {!order} | {phone} | {!date} |", "Zahlung {!date} IBAN {iban} Rechnung {!order}", "tracking {!track}, contact {phone}", "{!hash} {email} {!date} fix build", "api version {!version}, key {key}",
	}
	harmless = []string{
		"How do I check my balance on my credit card?", "Please tell me a joke about phones: it should be short.", "The password policy requires at least 12 characters.", "In 2024 we sold 3,200 units in 14 countries.", "My name is {~name}.", "He just turned {~n} years old", "The train leaves at {~time} from platform {~n}.",
		"3... 2... 1... liftoff!", "Room 101, building 7, floor 3.", "Use sudo apt-get update && apt-get -y upgrade", "a = b @ c.T  # matrix product", "The ratio was 16:9, and the score 3:2.",
	}
)
