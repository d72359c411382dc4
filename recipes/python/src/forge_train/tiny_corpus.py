"""What the tiny tokenizer learns its merges from: plain sentences about support and machines."""

TEXT = """\
Hello, how can I help you today? Thank you for waiting, I am looking at it now.
I am sorry to hear that. Please tell me the order number and what you see on the screen.
Your order was sent on Monday and should arrive within three working days.
To reset the password, open the settings, choose account, and press reset password.
The printer shows a paper jam. Open the rear door, remove the paper, and close the door again.
You can change the delivery address until the parcel has left the warehouse.
If the light is red, hold the power button for ten seconds and then start the device again.
The invoice is in your account under orders. You can download it there as a file.
We have sent you a message with a link. The link works for one hour.
Please check that the cable is connected and that the router shows a green light.
A refund takes up to five working days. You will see it on the same card that you paid with.
The battery should last for about eight hours when the screen is not too bright.
I would like to cancel my subscription at the end of the month.
That is done. You will not be charged again, and your data stays for thirty days.
Which size do you need? The small one fits a room of about twenty square metres.
The update was installed, but the program does not start. What should I do?
First close all windows, then start the computer again and try once more.
The training run reads the dataset, computes the loss, and saves a checkpoint every few steps.
A node failed and the run went on from the last checkpoint that was verified.
The queue is empty, so the next run starts at once on two graphics processors.
Is there anything else that I can do for you? No, thank you, that was all. Goodbye.
There were problems with the connection, therefore the request was not answered in time.
What time does the shop open on Saturday? It opens at nine and closes at four.
The warranty covers the device for two years, but not the battery.
They were looking for something that works with the other ones which they already have.
Could you please explain the difference between the standard and the express delivery?
Express delivery arrives the next day when you order before noon; standard takes three days.
user assistant system question answer because before after between through without another
"""
