"""The texts of chapter "Time decay": a short story for its first figure, and the passages on which it measures."""

__all__ = ["HEROINE", "PASSAGES", "STORY"]

HEROINE = "Mary"
STORY = (
    "In a small house by the river lives Mary, with two cats and an old piano. Every morning she walks across the "
    "bridge to the school, where she teaches children how to read. In the afternoon she works in the garden, or plays "
    "a song for the cats. When it gets dark, a lamp is lit in the window, and the music is soft. The one who plays is"
)
PASSAGES = {
    "one subject": (
        "The demand for a good is the quantity that consumers are willing to buy at each price. When the price rises, "
        "the quantity demanded falls. The supply of a good is the quantity that producers are willing to sell at each "
        "price. When the price rises, the quantity supplied rises. The equilibrium price is the price at which the "
        "quantity demanded equals the quantity supplied. If the price is above the equilibrium, there is a surplus, "
        "and firms will lower their prices. If the price is below the equilibrium, there is a shortage, and consumers "
        "will compete for the good."
    ),
    "many subjects": (
        "The lungs bring oxygen into the blood, and the heart pumps the blood through the body. Every cell needs "
        "oxygen to turn sugar into energy. A company that sells bread has to pay for flour, for wages and for rent. "
        "When these costs rise, the price of bread will rise as well, and some people will buy less of it. In the "
        "nineteenth century many farmers moved to the cities, where they worked in large factories. A star is a ball "
        "of hot gas that is held together by its own gravity."
    ),
    "a story": STORY + " Mary.",
    "history": (
        "In the summer of 1789 the price of bread in Paris was higher than most families could pay. Rumors spread that "
        "the king had called soldiers to the city. On the fourteenth of July a crowd marched to an old fortress in "
        "search of gunpowder. The governor of the fortress hesitated, his guards fired, and by the evening the crowd "
        "had taken the building. The king, who had gone hunting that day, is said to have asked whether it was a "
        "revolt. In the following weeks peasants attacked the houses of their lords, and in August the assembly ended "
        "the privileges of the nobility. The fortress was taken apart, stone by stone, and some of the stones were "
        "sold as souvenirs of the revolution."
    ),
    "biology": (
        "A muscle consists of long cells, which are called fibers. Inside each fiber lie thousands of thin threads of "
        "protein. When a nerve sends a signal to the muscle, calcium flows into the fiber, and the threads slide past "
        "each other, so that the fiber becomes shorter. This takes energy, which the cell stores in small molecules. "
        "When there is not enough oxygen, the fiber can make these molecules for a short time without it, but then "
        "acid builds up, and the muscle becomes tired. With training, a muscle does not get more fibers. Each fiber "
        "grows thicker, since more threads of protein are built inside it."
    ),
    "philosophy": (
        "Suppose that every plank of a ship is replaced, one after the other, until none of the first planks is left. "
        "Is it still the same ship? If it is, then an object is more than the matter of which it is made. If it is "
        "not, we should be able to say at which plank it became another one. Now suppose that somebody has kept the "
        "old planks and builds a ship out of them. There are two ships in the harbor, and each has a claim to the old "
        "name. Some philosophers answer that the question has no answer, because the word ship was never made for "
        "such a case."
    ),
    "astronomy": (
        "The Moon always turns the same side to the Earth. It does rotate, but it takes as long for one rotation as "
        "for one orbit. This is no accident. The gravity of the Earth pulls more strongly at the near side of the Moon "
        "than at the far side, and long ago this difference slowed the rotation of the Moon until the two periods were "
        "equal. The same force works in the other direction: the Moon raises tides in the oceans of the Earth, the "
        "tides slow the rotation of the Earth, and our days become longer by about two thousandths of a second in a "
        "century. In return, the Moon moves away from us a little every year."
    ),
    "law": (
        "A contract is an agreement that a court will enforce. It begins with an offer, by which one person tells "
        "another on which terms he is willing to be bound. If the other person accepts these terms, both are bound. If "
        "she answers with other terms, she has rejected the offer and made an offer of her own. A promise to give "
        "something for nothing is in most cases not enforced, for each side has to give something in return. A seller "
        "who does not deliver the goods has to pay for the loss of the buyer, but the buyer must do what is reasonable "
        "to keep the loss small."
    ),
}
