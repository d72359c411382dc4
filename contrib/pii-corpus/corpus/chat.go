package corpus

import "strings"

// chat is ordinary text of a training set: years, times, lists, code, and nothing personal.
var chat = strings.Split(`User: Could you explain how I should plan a two week trip through Japan in spring? I have about 14 days, and I'd like to see the cherry blossoms.
Assistant: Of course! Late March to early April is usually the best time; in 2023 the peak in Tokyo was on March 22. Here is a rough plan that leaves time to rest.
1. Tokyo (4 days): Ueno Park, the Meguro River, and a day in Kamakura. Trains run every 10 minutes, and a prepaid card saves you from buying tickets.
2. Kanazawa (2 days) - the gardens of Kenroku-en are well-known, and there are few tourists before 9:30. Try the market for lunch.
Book the hotels early, since prices rise by 40% or more. A rail pass is worth it only when you take more than three long rides; otherwise buy single tickets.
Why does my loop never end? I wrote while (i < 10) { sum += values[i]; } and the program hangs, although the array has only ten entries and nothing else changes.
The condition depends on i, but nothing in the body changes it, so it stays 0 for ever. Add i++ at the end of the body, or write for i := 0; i < 10; i++ instead.
Summarise the following paragraph in one sentence: The committee met three times last year and agreed, after long debate, to move the library into the old school.
The recipe needs 250 g of flour, 3 eggs, a pinch of salt and half a litre of milk; let the batter rest for 20 minutes, then bake thin pancakes in a hot pan.
In economics, a public good is one that nobody can be kept from using and whose use by one person leaves as much of it for others: street lights are an example.
Translate into German: "I would have come if you had told me in time." - Ich wäre gekommen, wenn du es mir rechtzeitig gesagt hättest.`, "\n")

// Chat is line i of ordinary text.
func Chat(i int) string { return chat[i%len(chat)] }
