"""Answers to the exercises as learners write them: right ones in unusual dress, and wrong ones with the words they get.

One module for each chapter, with a dict `ANSWERS`: exercise -> (right answers, {words: wrong answer}), with at least
five wrong ones. Where an exercise asks for a value, an answer is a function of what `given` returns. These stand beside
the mistakes that the checks know (`Exercise.mistakes`), which the tests hand in one by one as well.
"""
