"""Everyday words, idioms and short phrases for a facial expression, each with the apparent expression it speaks of.

A word comes with a distribution over ``CATEGORIES``: how ten people might vote on a face that fits the word. "over the moon" is
nearly all happiness; "bored" has no category of its own and is mostly neutral, with some sadness and contempt. The distributions
are our judgement, not counts. The words were written for the mini; the 40 categories of EmoNet-Face (LAION; CC BY 4.0) served as
the list of what to cover, from elation to jealousy.

``HELD_OUT`` are words of the same kind that stay out of the lexicon and of every caption, to measure words nobody trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

from modeling_expclip.prompts import LABEL_SETS

CATEGORIES = LABEL_SETS["ferplus"]  # FER+'s eight, in the order of its votes

# How a phrase is used, which decides the templates that fit it (captions.py):
# adjective "a {} face", noun "a look of {}", doing "a {} person" or "someone {}", idiom "someone who is {}", action "a face with {}".
KINDS = ("adjective", "noun", "doing", "idiom", "action")

# Percent by category, then the phrases by kind.
_ENTRIES = """
= happiness 100
adjective: happy, cheerful, delighted, gleeful, merry, glad, radiantly happy, overwhelmingly happy, very happy, truly happy
noun: happiness, delight, glee, cheerfulness, merriment, laughter, pure delight, great happiness, mirth
doing: laughing, grinning, giggling, chuckling, laughing out loud, cracking up, laughing heartily, cackling, howling with laughter,
    grinning broadly, laughing hard
idiom: over the moon, in stitches, full of glee, grinning from ear to ear, happy as a clam, happy as can be, full of cheer,
    in seventh heaven, pleased as punch, laughing her head off, laughing his head off, rolling with laughter, bursting with happiness,
    having a good laugh, having a ball, happy to be here, bright and cheerful
action: a broad grin, a wide grin, a grin that shows the teeth, a big toothy grin, a beautiful happy grin, an open laughing mouth,
    raised corners of the mouth, the corners of the mouth pulled up, lifted cheeks and narrowed eyes, raised cheeks,
    crinkles beside the eyes, lips stretched wide over the teeth, laughing eyes, dimples in lifted cheeks, a happy look,
    a cheerful grin, mouth corners turned up, crow's feet and a wide grin
= happiness 85 surprise 15
adjective: excited, thrilled, elated, exhilarated, euphoric, exuberant, giddy, exultant, rapturous, overexcited, pumped, psyched
noun: excitement, elation, euphoria, exhilaration, rapture, exuberance, giddiness, a thrill
doing: cheering, whooping, celebrating, rejoicing in good news, bubbling with excitement
idiom: bursting with excitement, buzzing with excitement, thrilled to bits, thrilled to pieces, high as a kite with happiness,
    on top of the world, beside himself with delight, beside herself with delight, ready to party, full of excitement
action: an open mouth and a grin, sparkling wide eyes and a grin, bright eyes and a big open grin
= happiness 90 neutral 10
adjective: amused, entertained, good-humoured, humorous, playful, sunny, lively, bubbly, vivacious, funny, light-hearted, chirpy, perky
noun: amusement, fun, playfulness, good humour, good cheer, high humour, light-heartedness
idiom: having fun, in a good mood, in a great mood, amused to no end, amused by a joke, full of fun, a ray of sunshine,
    finding it funny, full of life, loving life, a bundle of laughs, trying not to laugh
doing: twinkling, sparkling, joking, radiating warmth, glowing
action: a twinkle in the eye, a warm grin, merry eyes, a sparkle in the eyes
= happiness 75 neutral 25
adjective: pleased, optimistic, hopeful, enthusiastic, friendly, warm, kind, welcoming, good-natured, confident and happy, sunny-minded,
    positive, eager, inspired, keen, encouraged, approachable, likeable, gracious, charming
noun: pleasure, enthusiasm, optimism, hope, hopefulness, friendliness, warmth, eagerness, good will, zest
idiom: full of hope, pleased with the news, looking on the bright side, glad to see you, full of enthusiasm, looking forward to it,
    saying hello to a friend, posing happily for a photo, fired up and keen, happy with the result
action: a friendly grin, a kind look, a warm look, kind eyes, slightly lifted mouth corners and bright eyes
= happiness 60 neutral 40
adjective: content, contented, satisfied, fairly happy, slightly happy, mildly amused, a little happy, quietly happy, mildly pleased,
    peacefully happy, comfortable, fulfilled, quietly pleased, reassured
noun: contentment, satisfaction, quiet happiness, fulfilment, mild amusement, comfort, well-being
idiom: happy enough, at peace with the world, quietly content, happy with life, in good spirits, a little amused, happy inside,
    having nothing to complain about, satisfied with the outcome
action: a faint grin, a hint of a grin, a slight upturn of the lips, a closed-mouth grin, a small grin, a slight grin,
    gently lifted mouth corners, soft eyes and slightly lifted lips
= happiness 75 neutral 15 sadness 10
adjective: grateful, thankful, touched, appreciative, moved
noun: gratitude, thankfulness, appreciation
idiom: deeply moved, grateful beyond words, counting his blessings, counting her blessings, saying thank you
= happiness 80 neutral 20
adjective: affectionate, loving, tender, fond, adoring, caring, devoted, blissful, heavenly, cosy
noun: affection, love, tenderness, fondness, adoration, bliss, care, compassionate love
idiom: full of love, in a state of bliss, soft-hearted and loving
= happiness 75 neutral 15 surprise 10
adjective: infatuated, smitten, lovestruck, charmed, enchanted, love-struck and happy, enamoured, besotted
noun: infatuation, enchantment, a crush
idiom: head over heels, madly in love, falling in love, making heart eyes, swept off her feet, swept off his feet
= happiness 80 anger 10 surprise 10
adjective: triumphant, victorious
noun: triumph, victory
idiom: punching the air, winning at last, fist-pumping in victory, savouring the victory
= happiness 55 neutral 25 contempt 20
adjective: proud, self-confident, self-assured, accomplished, self-satisfied
noun: pride, self-confidence, self-satisfaction, a sense of achievement
idiom: proud as a peacock, proud of herself, proud of himself, bursting with pride, basking in glory
= happiness 60 neutral 25 surprise 15
adjective: relieved, eased
noun: relief
idiom: breathing a sigh of relief, glad it is over, off the hook, a weight off her mind, a weight off his mind
doing: sighing with relief
= happiness 70 contempt 20 neutral 10
adjective: teasing, mischievous, cheeky, impish, roguish, naughty, tongue-in-cheek, sly and amused
noun: mischief, cheekiness, playful teasing
doing: teasing a friend, winking, pulling a prank
idiom: up to mischief, up to no good, pulling someone's leg, tongue in cheek
action: a cheeky grin, a mischievous grin, a crooked grin, a playful wink
= happiness 45 neutral 45 contempt 10
adjective: flirty, seductive, sultry, lustful, coy, alluring, tipsy
noun: desire, lust, flirtation, seduction
doing: flirting, blowing a kiss, kissing
idiom: making eyes at someone, giving the come-hither look, a bit tipsy

= sadness 100
adjective: sad, unhappy, tearful, miserable, melancholic, dejected, depressed, sad and lonely, very sad, deeply sad, heavy-hearted,
    grief-stricken, grieving, disconsolate, inconsolable, despondent, despairing, broken-hearted, tear-stained, utterly miserable,
    saddened, bereaved, in despair
noun: sadness, grief, unhappiness, misery, melancholy, dejection, despair, depression, heartache, deep sadness, bereavement,
    despondency, anguish and tears, desolation
doing: crying, sobbing, bawling, wailing, blubbering, crying her eyes out, crying his eyes out, tearing up, shedding tears, whimpering,
    sniffling, grieving for a friend
idiom: down in the dumps, in floods of tears, in tears, on the verge of tears, down in the mouth, sick at heart, in the depths of despair,
    sad beyond words, about to cry, choked up, down and out, holding back tears, fighting back the tears, beside herself with grief,
    beside himself with grief, having a good cry, brought to tears, cut to the heart, with a broken heart
action: tears in the eyes, tears on the cheeks, the corners of the lips pulled down, a trembling lower lip, a quivering chin,
    raised inner eyebrows, drooping mouth corners, a mouth turned down, wet red eyes, a tear rolling down the cheek, a downturned mouth,
    sad eyes, a sad look, a crumpled crying face, inner brows drawn up above drooping eyes
= sadness 80 neutral 20
adjective: gloomy, downhearted, downcast, low, down, cheerless, blue, morose, sombre, subdued and sad, dispirited, disheartened,
    discouraged, dismal, bleak, unhappy inside, moping, long-faced, dreary, lonely, lonesome
noun: gloom, loneliness, low spirits, discouragement, gloominess, the blues
idiom: feeling low, feeling down, out of spirits, under a dark cloud, having the blues, a sad sight, in a sad mood, having a bad day,
    all alone in the world, in low spirits, looking down in sadness, missing someone
doing: brooding, sulking in a corner, moping around
action: downcast eyes, a lowered gaze and a bowed head, slack cheeks and downcast eyes, drooping eyelids and a low gaze, a long face,
    a drooping head
= sadness 60 neutral 40
adjective: slightly sad, a little sad, mildly sad, somewhat unhappy, subdued, melancholy and calm, wistful, sad-looking
noun: mild sadness, wistfulness, quiet sadness
idiom: a bit down, a little blue, not very happy, not in the mood, lost in sad thoughts
action: slightly lowered mouth corners, a faintly sad look
= sadness 70 neutral 15 anger 15
adjective: disappointed, let down, dissatisfied, hurt, deflated, disillusioned, dismayed, wounded, rejected, upset
noun: disappointment, dissatisfaction, dismay, disillusionment, hurt feelings
idiom: sadly let down, cut to the quick, sadly disappointed, sick with disappointment
action: a pout, a pouting lower lip, a disappointed look
doing: pouting, whining
= sadness 70 fear 15 neutral 15
adjective: ashamed, guilty, remorseful, regretful, sorry, apologetic, humiliated, mortified, contrite
noun: shame, guilt, remorse, regret, humiliation
idiom: full of regret, hanging his head in shame, hanging her head in shame, sorry for what he did, sorry for what she did, guilt-ridden
= sadness 65 fear 35
adjective: helpless, hopeless, powerless, vulnerable, desperate, lost, defeated, broken, needy, pitiful, overwhelmed, pleading
noun: helplessness, hopelessness, powerlessness, desperation, vulnerability
idiom: at her wits' end, at his wits' end, at the end of his rope, at the end of her rope, ready to give up, lost and alone
doing: begging for help
= sadness 45 fear 35 anger 20
adjective: distressed, troubled, tormented, distraught, anguished, stressed, traumatised, agitated and upset
noun: distress, anguish, torment, stress
idiom: falling apart, having a breakdown, in great distress, coming apart at the seams
= sadness 45 anger 20 disgust 20 fear 15
adjective: pained, in pain, hurting, aching, wincing, agonised, sore
noun: pain, agony, suffering, physical pain
doing: wincing in pain, groaning, writhing in pain
idiom: in agony, racked with pain
action: a grimace of pain, eyes squeezed shut in pain
= sadness 50 neutral 40 happiness 10
adjective: nostalgic, homesick, pining
noun: longing, yearning, nostalgia, homesickness
doing: pining for someone, longing for home
= sadness 30 happiness 30 neutral 20 fear 20
adjective: embarrassed, sheepish, awkward, flustered, bashful, self-conscious, blushing
noun: embarrassment, awkwardness
idiom: red in the face with embarrassment, wishing the ground would open
= sadness 55 neutral 30 contempt 15
adjective: pessimistic, sulky, mopey, self-pitying
noun: pessimism, self-pity

= neutral 100
adjective: neutral, impassive, blank, unemotional, emotionless, ordinary, blank-faced, poker-faced, stone-faced, unmoved, inexpressive,
    motionless, void of feeling, unaffected, nonchalant, plain-faced, flat, vacant, undemonstrative, po-faced
noun: no particular emotion, neutrality, impassivity, blankness, no emotion, a lack of emotion, a resting face, an ordinary face,
    stillness, an empty look, a neutral mood
idiom: giving nothing away, showing no emotion, keeping a poker face, without any emotion, hiding all feeling, neither happy nor sad,
    not showing any feelings, as blank as a wall, just looking at the camera, posing for a passport photo, having a stone face,
    nothing in particular, neither here nor there, with no feeling at all, looking straight ahead
action: a poker face, a blank stare, a closed mouth and relaxed muscles, level eyebrows and resting lips, a steady look, a straight mouth,
    an even resting face, relaxed eyelids and a straight mouth, a face at rest, lips lightly closed, a neutral look, a blank look,
    a stony face, no movement in the face, a flat mouth and a level gaze, a mask of a face, a passport-photo face
= neutral 85 happiness 15
adjective: calm, composed, relaxed, serene, tranquil, peaceful, collected, easygoing, at ease, unworried, carefree, laid-back, mellow,
    untroubled, calm and collected, self-possessed, patient, gentle, unruffled, level-headed, balanced
noun: calmness, composure, serenity, tranquillity, peace, peace of mind, relaxation, equanimity, inner peace, patience
idiom: calm as can be, keeping calm, as calm as a millpond, cool and collected, taking it easy, in a calm mood, cool and composed,
    resting quietly, not a care in the world
doing: resting, relaxing, meditating, chilling
action: a calm look, a relaxed face, a soft steady gaze
= neutral 60 sadness 25 contempt 15
adjective: bored, uninterested, apathetic, disinterested, listless, fed up with waiting, bored stiff, bored silly, unenthusiastic, jaded,
    weary of it all, bored out of her mind, bored out of his mind
noun: boredom, apathy, tedium, a lack of interest, listlessness
idiom: bored to death, bored to tears, losing interest, watching paint dry, killing time, not interested at all
action: a bored look, half-closed bored eyes
doing: yawning with boredom, staring into space
= neutral 80 contempt 20
adjective: indifferent, detached, aloof, unimpressed, uncaring, cold, distant, reserved, cool, unresponsive, unconcerned, disengaged,
    stand-offish, lukewarm
noun: indifference, detachment, coolness, reserve, coldness
idiom: not bothered, not impressed, couldn't care less, keeping his distance, keeping her distance, playing it cool, cold as ice
= neutral 80 sadness 20
adjective: numb, emotionally numb, withdrawn, dazed and empty, hollow, quiet, silent, absent, absent-minded, dull, passive, lifeless
noun: numbness, emotional numbness, emptiness, quietness
idiom: lost in thought, in a world of her own, in a world of his own, miles away, empty inside, dead inside, zoned out, spaced out
doing: zoning out, daydreaming
action: a faraway look, a dull gaze, empty eyes
= neutral 75 sadness 25
adjective: thoughtful, pensive, contemplative, reflective, meditative, preoccupied, introspective
noun: contemplation, thoughtfulness, reflection, deep thought
doing: thinking, pondering, contemplating, musing, reminiscing
idiom: deep in thought, mulling it over, thinking it through, lost in memories
= neutral 75 anger 25
adjective: serious, stern, focused, concentrated, determined, attentive, solemn, resolute, businesslike, strict, severe, intent, rigid,
    no-nonsense, earnest, grave, formal, tight-lipped
noun: seriousness, concentration, focus, determination, attention, resolve, sternness, earnestness, gravity
doing: concentrating, focusing, paying attention, staring
idiom: all business, deep in concentration, hard at work, keeping a stiff upper lip, on a mission, steeling herself, steeling himself
action: a serious look, a fixed stare, narrowed focused eyes, a stern look
= neutral 60 surprise 20 happiness 20
adjective: interested, curious, intrigued, fascinated, inquisitive, engaged, alert, captivated, absorbed
noun: interest, curiosity, fascination, intrigue
doing: listening, listening closely, watching with interest
idiom: all ears, wanting to know more, hanging on every word
action: a curious look, a tilted head and an attentive look
= neutral 55 sadness 45
adjective: tired, exhausted, sleepy, drowsy, weary, fatigued, worn out, drained, burnt out, sluggish, bleary-eyed, dead tired, lethargic
noun: tiredness, exhaustion, fatigue, sleepiness, weariness, drowsiness
doing: yawning, nodding off, dozing off
idiom: ready for bed, half asleep, running on empty, dead on her feet, dead on his feet, in need of sleep
action: heavy eyelids, tired eyes, bags under tired eyes
= neutral 40 surprise 30 sadness 10 anger 10 fear 10
adjective: confused, puzzled, perplexed, bewildered, baffled, mystified, disoriented, muddled, at a loss
noun: confusion, puzzlement, bewilderment, perplexity
idiom: scratching his head, scratching her head, lost and confused, none the wiser, not getting it
action: one raised eyebrow and a tilted head, a puzzled look
= neutral 45 contempt 25 surprise 15 anger 15
adjective: doubtful, sceptical, skeptical, dubious, unconvinced, hesitant, uncertain, unsure, undecided, wary and doubtful
noun: doubt, scepticism, skepticism, uncertainty, hesitation
idiom: in two minds, not so sure, taking it with a grain of salt, having doubts
= neutral 50 happiness 30 sadness 20
adjective: drunk, intoxicated, woozy, dazed, dreamy, high, shy, modest, timid and quiet, humble
noun: intoxication, dreaminess, shyness
idiom: out of it, under the influence, three sheets to the wind, lost in a dream

= anger 100
adjective: angry, enraged, mad, outraged, raging, fuming, wrathful, ferocious, very angry, boiling mad, extremely angry, hopping mad,
    angry as a bull, raving mad, apoplectic, red-faced with anger, violently angry
noun: anger, rage, outrage, wrath, blind rage, burning anger, temper, ire
doing: shouting, yelling, raging at someone, yelling in anger, snarling, growling, roaring with rage, losing his temper, losing her temper,
    exploding with anger, ranting, storming, gnashing the teeth, throwing a tantrum, shouting angrily, flying into a rage
idiom: beside herself with rage, beside himself with rage, hitting the roof, blowing a fuse, foaming at the mouth,
    out for blood, spitting nails, mad as a hornet, blowing his top, blowing her top, at boiling point, ready to explode, fit to be tied,
    going through the roof, losing it completely, spoiling for a fight, steaming with anger, fighting mad, having a fit of rage,
    like a bear with a sore head
action: eyebrows drawn together and lowered, tightly pressed lips and a hard stare, bared teeth and a shouting mouth,
    flared nostrils and glaring eyes, bared teeth, flared nostrils, an angry look, an angry glare, knitted brows and tight lips,
    brows pulled down over hard eyes, a shouting mouth, a snarl, veins standing out on the forehead
= anger 85 neutral 15
adjective: hostile, aggressive, cross, indignant, riled, worked up, steamed, irritated, annoyed, vexed, exasperated, combative,
    confrontational, provoked, pissed off, belligerent, antagonistic, menacing, threatening, fierce, fiery, hot-headed
noun: hostility, aggression, irritation, annoyance, indignation, exasperation, menace, bad temper, vexation, animosity,
    displeasure
doing: glaring, scowling, glowering, looking daggers, clenching his jaw, gritting her teeth, grinding his teeth, arguing, scolding,
    giving the evil eye
idiom: at the end of her patience, at the end of his patience, in a foul mood, in a bad mood, in a temper, out of sorts and angry,
    ready for a fight, rubbed up the wrong way, hopping with annoyance, bent out of shape, having a bone to pick, on the warpath,
    giving a dirty look, about to snap
action: a scowl, a glare, a clenched jaw, a furrowed brow and a hard stare, pressed lips, lowered brows, a thin tight mouth,
    a clenched jaw and a furrowed brow, a deep crease between the brows, piercing eyes under lowered brows, gritted teeth
= anger 65 neutral 20 sadness 15
adjective: grumpy, grouchy, cranky, moody, fed up, irritable, crabby, disgruntled, bad-tempered, ill-tempered, displeased, frustrated,
    testy, snappy, petulant, sullen, surly, crotchety, touchy, put out, cantankerous, miffed, peeved
noun: grumpiness, frustration, moodiness, sullenness, irritability, petulance
doing: grumbling, sulking, complaining, grouching, moaning about everything
idiom: in a huff, in a mood, sick and tired of it, fed up to the back teeth, getting out of bed on the wrong side, in a sulk,
    had enough, cheesed off, not amused, a grumpy old man
action: a sulky look, a grumpy look, a set jaw and a sulky mouth
= anger 55 neutral 45
adjective: slightly angry, a little annoyed, mildly irritated, a bit angry, mildly annoyed, a little cross
noun: mild annoyance, mild irritation, slight anger
idiom: a bit put out, somewhat annoyed
action: slightly lowered brows, slightly pressed lips
= anger 60 neutral 25 contempt 15
adjective: impatient, restless, short-tempered, curt, brusque
noun: impatience
idiom: tapping his foot, losing patience, running out of patience
= anger 45 sadness 35 contempt 20
adjective: bitter, resentful, aggrieved, embittered, offended, insulted, jealous, envious, wronged, spurned
noun: bitterness, resentment, jealousy, envy, a grudge
idiom: green with envy, bearing a grudge, having a chip on his shoulder, having a chip on her shoulder, eaten up with jealousy
= anger 55 contempt 25 happiness 20
adjective: malicious, evil, cruel, malevolent, vicious, spiteful, vindictive, sinister, ruthless, wicked, sadistic
noun: malice, cruelty, spite, malevolence, ill will, vengefulness
idiom: out for revenge, plotting revenge
action: an evil grin, a wicked glint in the eye
= anger 65 disgust 20 contempt 15
adjective: hateful, full of hate
noun: hatred, hate, bitter hatred
= anger 45 disgust 35 sadness 20
adjective: sour, sour-faced
noun: sourness
idiom: sour as a lemon, pulling a sour face

= surprise 100
adjective: surprised, amazed, stunned, startled, shocked, astounded, taken aback, very surprised, utterly amazed, dumbstruck, awestruck,
    staggered, wide-eyed, open-mouthed, electrified, bowled over, slack-jawed, pop-eyed, wonderstruck,
    completely surprised, jolted
noun: surprise, amazement, shock, disbelief, startlement, wonder, sudden surprise, total surprise, a shock, incredulity, utter amazement,
    great surprise, the unexpected
doing: gasping, gaping, gaping in wonder, gasping in surprise, staring in disbelief, doing a double take, gawking, gawping, goggling,
    staring wide-eyed, gasping with shock, marvelling
idiom: taken by surprise, caught by surprise, knocked for six, thrown for a loop, unable to believe her eyes, unable to believe his eyes,
    rubbing his eyes in disbelief, rubbing her eyes in disbelief, struck dumb, in for a surprise, seeing something unexpected,
    in a state of shock, like a bolt from the blue, caught unawares, saying wow, hardly believing it,
    stopped in her tracks, stopped in his tracks, knocked sideways, rendered speechless, in total disbelief
action: raised eyebrows and a dropped jaw, eyes wide open and a round open mouth, arched brows and parted lips, a dropped jaw,
    raised eyebrows, a gaping mouth and lifted eyebrows, upper eyelids lifted high, wide open eyes, a wide open mouth, an open mouth,
    high arched eyebrows, a mouth shaped like an o, round eyes, eyebrows shot up, a jaw dropping open, a gasp, popping eyes, an oval mouth,
    lines across the forehead and lifted brows, a surprised look, a shocked look
= surprise 70 happiness 20 fear 10
adjective: awed, in awe, overawed, spellbound, breathless, impressed, dazzled, mesmerised, full of wonder
noun: awe, admiration and wonder, amazement and delight
idiom: in awe of it all, holding her breath in wonder, holding his breath in wonder, filled with wonder
= surprise 65 happiness 35
adjective: pleasantly surprised, happily surprised, delightfully surprised, surprised and pleased
noun: happy surprise, pleasant surprise, delighted surprise
idiom: getting a nice surprise, opening a present, walking into a surprise party, surprised by good news
action: an open mouth and laughing eyes, raised eyebrows and a grin
= surprise 55 fear 45
adjective: shaken, rattled, shell-shocked, startled and afraid, unsettled by surprise, shocked and frightened, surprised and alarmed
noun: fearful surprise, alarm and surprise, a fright
idiom: jumping out of her skin, jumping out of his skin, like a deer in the headlights, taken by a sudden fright
= surprise 60 neutral 40
adjective: slightly surprised, mildly surprised, a little surprised, a bit startled, somewhat surprised
noun: mild surprise, slight surprise
idiom: raising an eyebrow, a bit taken aback, not expecting that
action: slightly raised eyebrows, slightly parted lips and lifted brows
= surprise 55 sadness 20 anger 25
adjective: unpleasantly surprised, shocked and upset, scandalised, nonplussed, disconcerted
noun: unpleasant surprise
= surprise 70 neutral 30
adjective: incredulous, disbelieving, wondering, speechless, tongue-tied, questioning, uncomprehending
noun: wonderment, a look of disbelief
idiom: at a loss for words, not believing it, wondering what just happened

= disgust 100
adjective: disgusted, repulsed, sickened, nauseated, grossed out, disgusted by the smell, very disgusted, utterly disgusted,
    thoroughly disgusted, repulsed by the taste, sick with disgust, ready to vomit
noun: disgust, repulsion, distaste, nausea, aversion, revulsion, utter disgust, strong disgust, a bad taste, nausea and disgust
doing: retching, wrinkling her nose, wrinkling his nose, holding his nose, holding her nose, sticking out the tongue in disgust,
    spitting it out, smelling something bad, tasting something rotten, about to vomit, making a face at the food, cringing in disgust,
    heaving, feeling sick
idiom: sick to her stomach, grossed out by it, about to be sick, about to throw up, smelling a bad smell, with a bad taste in the mouth,
    looking at something gross, seeing something foul, biting into a lemon, fit to vomit, finding it gross,
    smelling rotten eggs, green around the gills, going ew
action: a wrinkled nose and a raised upper lip, the tongue pushed out and narrowed eyes, a curled lip and a crinkled nose,
    cheeks pushed up around a wrinkled nose, a grimace of the mouth with squinting eyes, a wrinkled nose, a scrunched up nose,
    a raised upper lip, a crinkled nose, the tongue sticking out, a twisted mouth and squinting eyes, a grimace of disgust,
    a screwed up face, nostrils drawn up, a disgusted look, a curled upper lip, a crinkled nose and squeezed eyes
= disgust 65 anger 35
adjective: offended by the smell, abhorrent, morally disgusted, angrily disgusted
noun: loathing, detestation, moral disgust, disgust and anger, antipathy
doing: recoiling, detesting it
idiom: unable to stomach it, hating the sight of it, sick of the sight of it
= disgust 60 neutral 40
adjective: slightly disgusted, a little disgusted, mildly disgusted, picky
noun: mild disgust, dislike, mild distaste, slight nausea, reluctance
idiom: not liking the taste, a bit sick, not keen on the smell
action: a slightly wrinkled nose, a slight grimace
= disgust 65 contempt 35
adjective: disgusted and scoffing, disapproving and disgusted, grossed out and superior
noun: disgust and contempt
= disgust 60 sadness 25 anger 15
adjective: unwell, nauseated and weak, bilious, sick, appalled
noun: sickness, an upset stomach
idiom: feeling unwell, sick as a dog, having eaten something bad
= disgust 60 fear 40
adjective: horrified and disgusted, creeped out and disgusted
noun: disgust and fear
idiom: making his skin crawl, making her skin crawl, seeing a spider in the soup

= fear 100
adjective: fearful, afraid, frightened, terrified, panicked, terror-stricken, panicky, panic-stricken, badly frightened,
    very frightened, frightened to death, fear-stricken, terrorised, frozen with fear, deathly afraid
noun: fear, terror, fright, panic, dread, great fear, mortal fear, blind panic, sheer terror, a sense of dread
doing: trembling, trembling with fear, shaking with fear, screaming in terror, quaking, panicking, screaming in fear, shrinking back,
    fearing for his life, fearing for her life, flinching, quivering with fear, running away in fear
idiom: frightened out of her wits, frightened out of his wits, beside herself with fear, beside himself with fear, in fear of his life,
    in fear of her life, rooted to the spot, shaking in his boots, shaking in her boots, in a blind panic, in mortal terror, hiding in fear,
    seeing a ghost, paralysed with fear, white with fear, having a nightmare, sick with fear
action: raised and drawn together eyebrows above wide eyes, tense lips stretched back and staring eyes,
    wide staring eyes and a tense mouth, lifted upper eyelids and lips stretched sideways, eyes wide with fear, a fearful look,
    a frightened look, a pale tense face, lips stretched back, hands in front of the mouth and wide eyes, white showing around the eyes,
    a mouth pulled open in a scream and hands near the face, strained brows and staring eyes, a frozen stare
= fear 70 surprise 30
adjective: alarmed, horrified, horror-struck, terrified and shocked, startled by danger, hysterical, frantic
noun: alarm, horror, sudden fear, hysteria
doing: screaming, shrieking, screaming out loud, crying out in alarm
idiom: with his heart in his mouth, with her heart in her mouth, seeing danger
action: a scream, wide eyes and an open screaming mouth
= fear 60 neutral 20 sadness 20
adjective: anxious, worried, nervous, uneasy, apprehensive, tense, concerned, insecure, worried sick, fretful, edgy, jumpy, on tenterhooks,
    nervy, uptight, frightened and sad, fraught, worried stiff, ill at ease
noun: anxiety, worry, nervousness, unease, apprehension, tension, concern, insecurity, nerves, worry lines, foreboding, trepidation
doing: worrying, fretting, biting his nails, biting her nails, fearing the worst, dreading what comes
idiom: worried to death, full of worry, having butterflies in the stomach, on pins and needles, a bundle of nerves, a nervous wreck,
    expecting the worst, like a cat on hot bricks
action: worried eyes, a worried look, a nervous look, bitten lips and tense brows
= fear 60 neutral 40
adjective: slightly afraid, a little afraid, a bit frightened, mildly worried, wary, cautious, guarded, a little nervous
noun: mild fear, wariness, caution, mild anxiety
idiom: not feeling safe, a bit nervous
= fear 65 disgust 35
adjective: creeped out, freaked out
noun: fear and disgust, the creeps
idiom: getting the creeps, having the creeps
= fear 60 sadness 40
adjective: threatened, intimidated, desperate and afraid, frightened and tearful, haunted, hunted
noun: fearful sadness, fear and grief
idiom: fearing the loss, crying with fear
= fear 55 anger 25 surprise 20
adjective: frenzied, paranoid, frightened and angry, suspicious and afraid
noun: paranoia, fear and anger

= contempt 100
adjective: contemptuous, disdainful, smug, sneering, smirking, snobbish, arrogant, superior, disparaging, contemptuous of others,
    self-righteous, snide, full of contempt, full of disdain, stuck-up, snotty, pompous, patronising, openly contemptuous
noun: contempt, disdain, smugness, arrogance, snobbery, superiority, open contempt, pure contempt, utter disdain, self-importance,
    pompousness
doing: smirking at someone, sneering at someone, rolling her eyes, rolling his eyes, curling the lip, looking smug, scoffing,
    turning up her nose, turning up his nose, raising the chin in contempt, sniffing at it
idiom: too good for this, full of himself, full of herself, on a high horse, looking down his nose, looking down her nose, high and mighty,
    smug as a cat, thinking himself better, thinking herself better, not worth a glance, treating others like dirt, above it all,
    too cool for school, better than everyone
action: a smirk, a sneer, one raised mouth corner, a one-sided smirk, a lip corner pulled up on one side, a smug look, a lifted chin and a sneer,
    an eye roll, one lip corner tightened, narrowed eyes and a smirk, a crooked tight mouth, a contemptuous look, a sideways look and a smirk,
    a lopsided smirk, a look down the nose
= contempt 60 happiness 25 neutral 15
adjective: cocky, conceited, smug and amused, boastful, big-headed, self-congratulating, wry, vain
noun: conceit, vanity, a smug kind of amusement
doing: gloating over it, bragging
idiom: like the cat that got the cream, too clever by half, pleased with himself, pleased with herself
action: a smug grin, a knowing smirk, a wry smirk
= contempt 60 neutral 40
adjective: unimpressed and smug, cynical, coldly superior, slightly contemptuous, a little smug, judgemental, disapproving, disrespectful,
    sniffy
noun: cynicism, disapproval, mild contempt, disrespect, slight disdain
idiom: not thinking much of it, a bit smug, giving the side-eye, having no respect
action: a sceptical sideways glance, a slight smirk
= contempt 60 anger 40
adjective: mocking, hostile and smug, sarcastic, insolent, defiant, scathing, withering
noun: mockery, sarcasm, ridicule, insolence, defiance, scoffing remarks
doing: jeering, taunting, mocking someone
idiom: having the last laugh, thumbing his nose, thumbing her nose
= contempt 60 disgust 40
adjective: contemptuous and disgusted, disgustedly superior
noun: contempt and disgust
= contempt 45 neutral 30 anger 25
adjective: suspicious, distrustful, mistrustful, sly, shifty, calculating, scheming
noun: suspicion, distrust, mistrust
idiom: smelling a rat, not buying it, giving a suspicious look
"""


@dataclass(frozen=True)
class Phrase:
    """``text``, how it is used (one of ``KINDS``), and its distribution over ``CATEGORIES``, which sums to one."""

    text: str
    kind: str
    expression: tuple[float, ...]

    @property
    def category(self) -> str:
        """The category with the largest share; of equal ones the first."""
        return CATEGORIES[self.expression.index(max(self.expression))]


def distribution(percent: str) -> tuple[float, ...]:
    """``"happiness 70 surprise 30"`` -> shares of the eight categories. Raises ValueError unless they sum to 100 percent."""
    words = percent.split()
    shares = dict(zip(words[::2], map(int, words[1::2])))
    if shares.keys() - set(CATEGORIES) or sum(shares.values()) != 100 or 2 * len(shares) != len(words):
        raise ValueError(f"{percent!r} is no distribution: name categories of {CATEGORIES}, each once, that sum to 100")
    return tuple(shares.get(category, 0) / 100 for category in CATEGORIES)


def _read(entries: str) -> tuple[Phrase, ...]:
    phrases, expression = [], ()
    for line in entries.replace("\n    ", " ").split("\n"):
        if line.startswith("= "):
            expression = distribution(line[2:])
        elif line:
            kind, texts = line.split(": ", 1)
            phrases += [Phrase(text, kind, expression) for text in texts.split(", ")]
    return tuple(phrases)


LEXICON = _read(_ENTRIES)

# Words and idioms that no caption has (captions.HELD_OUT_STEMS), for reporting. The text tower imitates the sentence encoder on
# them, as on any words; no image is ever paired with them.
HELD_OUT = {
    category: tuple(texts.split(", "))
    for category, texts in {
        "happiness": "jubilant, chuffed, tickled pink, on cloud nine, upbeat, jolly, walking on air, ecstatic",
        "sadness": "heartbroken, glum, forlorn, mournful, crestfallen, feeling blue, close to tears, weepy",
        "neutral": "deadpan, stoic, straight-faced, unfazed, even-tempered, cool as a cucumber, placid, matter-of-fact",
        "anger": "livid, seething, irate, infuriated, hot under the collar, seeing red, incensed, ticked off",
        "surprise": "gobsmacked, flabbergasted, thunderstruck, stupefied, lost for words, blown away, caught off guard, dumbfounded",
        "disgust": "queasy, squeamish, yuck, sick to the stomach, repelled, gagging, put off by the smell, turned off",
        "fear": "petrified, spooked, jittery, white as a sheet, shaking like a leaf, cowering, on edge, daunted",
        "contempt": "scornful, haughty, condescending, snooty, derisive, holier-than-thou, looking down on others, dismissive",
    }.items()
}
