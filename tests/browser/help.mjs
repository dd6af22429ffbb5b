// Asks the frontend for the help page of every node of ours, as its Info button does, and reports in JSON what it renders.
//   node help.mjs URL CHROMIUM OUT_FOLDER
import path from 'node:path'
import { visit } from './page.mjs'

const [url, executablePath, out] = process.argv.slice(2)

// A node alone on the canvas, small and in the middle, and selected: its toolbox is above it.
function select(type) {
  window.app.graph.clear()
  const node = window.LiteGraph.createNode(type)
  window.app.graph.add(node)
  Object.assign(window.app.canvas.ds, { scale: 0.5, offset: [1400, 500] })
  window.app.canvas.selectNode(node)
}

// What the help panel shows of a page whose pictures have come.
function rendered(title) {
  const page = document.querySelector('.node-help-content')
  const pictures = [...(page?.querySelectorAll('img') ?? [])]
  if (page?.querySelector('h1')?.innerText !== title || !pictures.every((picture) => picture.complete)) return null
  const edge = page.getBoundingClientRect().right
  const over = [...page.querySelectorAll('*')].filter((part) => part.getBoundingClientRect().right > edge + 1)
  const blocks = [page, page.parentElement, ...page.querySelectorAll('p, li, ul, ol, pre, table')]
  const scrolled = blocks.filter((part) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0)
  return {
    title, length: page.innerText.length, over: [...over, ...scrolled].map((part) => part.innerText),
    pictures: pictures.map((picture) => ({ source: new URL(picture.src).pathname, width: picture.naturalWidth }))
  }
}

await visit(url, executablePath, async (page, report) => {
  const names = await page.evaluate(() => Object.keys(window.LiteGraph.registered_node_types).filter((name) => name.startsWith('FusionFrames_')))
  report.pages = {}
  page.setDefaultTimeout(60000)
  for (const name of names) {
    const text = await (await fetch(new URL(`/object_info/${name}`, url))).json()
    await page.evaluate(select, name)
    await page.getByTestId('info-button').click()
    const answer = await page.waitForFunction(rendered, text[name].display_name)
    report.pages[name] = await answer.jsonValue()
    await page.screenshot({ path: path.join(out, `${name}.png`) })
    await page.getByTestId('info-button').click() // closes it
  }
})
